"""Lines and pieces of a file that may be compressed, cut short or damaged; none is longer than a document may be."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, cast

from megalith.curation.reading.document import MAXIMUM_BYTES, Part, Source
from megalith.curation.reading.encodings import SAMPLE_BYTES, WIDE, Recoded, encoding_of
from megalith.curation.reading.opening import DAMAGE, compression_of, open_bytes, open_file
from megalith.curation.reading.remote import name_of


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
    """Whether ranges of bytes of a file are ranges of its lines: not where it is compressed, whatever its name."""
    with open_bytes(source) as file:
        return compression_of(file, name_of(source)) is None


def open_lines(source: Source, encoding: str) -> BinaryIO:
    """A file's content, in UTF-8 where it is in an encoding that has no bytes for lines."""
    file = open_file(source)
    return cast(BinaryIO, io.BufferedReader(Recoded(file, encoding), 1 << 16)) if encoding in WIDE else file


def lines(file: BinaryIO, counts: Counter[str], part: Part) -> Iterator[bytes]:
    """The lines that begin in a range of the file's bytes, but for those that are too long to be a document's."""
    start, stop = part or (0, None)
    if start:
        file.seek(start - 1)
        _pass_line(file, stop)
    while (stop is None or file.tell() < stop) and (line := file.readline(MAXIMUM_BYTES + 1)):
        if len(line) > MAXIMUM_BYTES and not line.endswith(b"\n"):
            counts["records"] += 1
            counts["too_long"] += 1
            _pass_line(file, stop)
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


def _pass_line(file: BinaryIO, stop: int | None) -> None:
    """Pass the rest of a line, as far as `stop`: what begins behind it is another's."""
    while (stop is None or file.tell() < stop) and (piece := file.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass
