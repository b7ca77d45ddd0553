"""Lines and pieces of a file that may be compressed, cut short or damaged; none is longer than a document may be."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, cast

from megalith.curation.reading.document import MAXIMUM_BYTES, Part, Source
from megalith.curation.reading.encodings import SAMPLE_BYTES, WIDE, Recoded, encoding_of
from megalith.curation.reading.opening import DAMAGE, PACKED, compression_of, open_bytes, open_file
from megalith.curation.reading.remote import name_of

ENDLESS = 2**63 - 1
"""As the end of a part: that of the content, which is not known before it is unpacked."""


def sample_of(source: Source) -> bytes:
    """The first bytes of a file's content, as far as they can be read."""
    with open_file(source) as file:
        found = bytearray()
        try:
            while len(found) < SAMPLE_BYTES and (piece := file.read(1 << 16)):
                found += piece
        except (EOFError, *DAMAGE):
            pass
    return bytes(found)


def is_cut(source: Source) -> bool:
    """Whether parts of a file are ranges of its content's bytes: not where it is compressed and its name hides that."""
    if name_of(source).lower().endswith(PACKED):
        return True
    with open_bytes(source) as file:
        return compression_of(file, name_of(source)) is None


def open_lines(source: Source, encoding: str) -> BinaryIO:
    """A file's content, in UTF-8 where it is in an encoding that has no bytes for lines."""
    file = open_file(source)
    return cast(BinaryIO, io.BufferedReader(Recoded(file, encoding), 1 << 16)) if encoding in WIDE else file


def lines(file: BinaryIO, counts: Counter[str], part: Part) -> Iterator[bytes]:
    """The lines that begin in a range of the content's bytes, but for those that are too long to be a document's.

    Compressed content is unpacked from its beginning. Where it is damaged before the range, nothing is in it: the part
    that has the damage counts it.
    """
    start, stop = part or (0, ENDLESS)
    at = 0
    if start:
        try:
            at = _pass_to(file, start - 1)
            at += _pass_line(file, stop - at)
        except (EOFError, *DAMAGE):
            return
    while at < stop and (line := file.readline(MAXIMUM_BYTES + 1)):
        at += len(line)
        if len(line) > MAXIMUM_BYTES and not line.endswith(b"\n"):
            counts["records"] += 1
            counts["too_long"] += 1
            at += _pass_line(file, stop - at)
        else:
            yield line


def whole(pieces: Iterator[bytes], counts: Counter[str]) -> Iterator[bytes]:
    """The pieces up to where a compressed file is cut off or damaged, which is counted as a record that is lost."""
    try:
        yield from pieces
    except EOFError:
        counts.update(records=1, truncated=1)
    except DAMAGE:
        counts.update(records=1, damaged=1)


def encoding_for(source: Source) -> str:
    """The encoding of a file by its first bytes."""
    return encoding_of(sample_of(source))


def _pass_to(file: BinaryIO, place: int) -> int:
    """Pass the content before `place`, as far as there is any; the bytes that were passed."""
    if file.seekable():
        return file.seek(place)
    left = place
    while left and (piece := file.read(min(left, 1 << 20))):
        left -= len(piece)
    return place - left


def _pass_line(file: BinaryIO, most: int) -> int:
    """Pass the rest of a line, as far as `most` bytes and little more; the bytes that were passed."""
    passed = 0
    while passed < most and (piece := file.readline(1 << 20)):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed
