"""Records of JSON: an object a line, or objects that stand in one array, one after another, or over several lines.

The first bytes tell which. Only lines can be read in parts: of any other file the first part is the whole.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from megalith.curation.reading.document import MAXIMUM_BYTES, OTHER_ENCODING, Document, Part, Source
from megalith.curation.reading.encodings import UTF8, WIDE, encoding_of
from megalith.curation.reading.fields import document_of
from megalith.curation.reading.how import How
from megalith.curation.reading.lines import is_cut, lines, open_lines, sample_of, whole

_TOKEN = re.compile(rb'["{}\[\]]|\\.', re.DOTALL)
_PIECE_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"


def read_json(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The documents of a file of JSON; lines that are not an object of JSON are counted as `bad_line`."""
    sample = sample_of(path)
    encoding = encoding_of(sample)
    if encoding in WIDE:
        sample = sample.decode(encoding, "replace").encode("utf-8", "replace")
    in_lines = _is_lines(sample)
    if part and not (in_lines and encoding not in WIDE and is_cut(path)):
        if part[0]:
            return
        part = None
    with open_lines(path, encoding) as file:
        if in_lines:
            pieces: Iterator[bytes] = (line for line in whole(lines(file, counts, part), counts) if line.strip())
        else:
            blocks = iter(lambda: file.read(_PIECE_BYTES), b"")
            pieces = whole(_objects(blocks, counts), counts)
        for piece in pieces:
            counts["records"] += 1
            fields, decoded = _parsed(piece, encoding)
            if not isinstance(fields, dict):
                counts["bad_line"] += 1
                continue
            document = document_of(fields, counts, how)
            if document is not None:
                if decoded:
                    counts[OTHER_ENCODING] += 1
                yield document


def _parsed(line: bytes, encoding: str) -> tuple[Any, bool]:
    """The value of a line, and whether it had to be decoded as something that is not UTF-8."""
    line = line.removeprefix(_BOM)
    try:
        return json.loads(line.decode()), encoding in WIDE
    except UnicodeDecodeError:
        if encoding == UTF8 or encoding in WIDE:
            return None, False
    except (ValueError, RecursionError):  # also brackets without end
        return None, False
    try:
        return json.loads(line.decode(encoding)), True
    except (ValueError, RecursionError):
        return None, False


def _is_lines(sample: bytes) -> bool:
    """Whether a file that begins so has an object a line."""
    start = sample.removeprefix(_BOM).lstrip()
    first, end, _ = start.partition(b"\n")
    try:
        value = json.loads(first.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        if start[:1] == b"{" and _are_side_by_side(first):
            return False
        # An object over several lines breaks where no string is open; a damaged line mostly within one.
        depth, in_string = 0, False
        for token in _TOKEN.finditer(first):
            match token[0]:
                case b'"':
                    in_string = not in_string
                case b"{" | b"[" if not in_string:
                    depth += 1
                case b"}" | b"]" if not in_string:
                    depth -= 1
        if end:
            return not (start[:1] in (b"{", b"[") and not in_string and 0 < depth < 64 and _goes_on(start, first))
        return start[:1] != b"["  # so long a line: an array of everything, or an object that is one
    return not (isinstance(value, list) and any(isinstance(one, dict) for one in value))


def _are_side_by_side(line: bytes) -> bool:
    """Whether one object follows another on a line."""
    text = line.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip().startswith("{")


def _goes_on(start: bytes, first: bytes) -> bool:
    """Whether the second line takes up what the first one left open: a key, a bracket or a value, not a new object."""
    following = start[len(first) :].lstrip()[:1]
    if start[:1] == b"[":
        return first.rstrip()[-1:] in (b"{", b"[", b",", b":") or following in (b",", b"]")
    return first.rstrip()[-1:] in (b"{", b"[", b",", b":") and following != b"{"


def _objects(blocks: Iterator[bytes], counts: Counter[str]) -> Iterator[bytes]:
    """The outermost objects of a text, in an array or one after another, however they are laid out.

    What is no object between them (numbers, texts) is passed over and counted once as `bad_line`.
    """
    held = bytearray()
    at = depth = 0
    begin: int | None = None
    in_string = False
    for block in blocks:
        held += block
        for token in _TOKEN.finditer(held, at):
            sign = token[0]
            if sign == b'"':
                in_string = not in_string
            elif in_string or sign[:1] == b"\\":
                continue
            elif sign == b"{":
                if begin is None:
                    begin, depth = token.start(), 0
                depth += 1
            elif sign == b"}" and begin is not None:
                depth -= 1
                if depth == 0:
                    yield bytes(held[begin : token.end()])
                    begin = None
        at = len(held) - _ends_escaping(held)
        if begin is None:
            del held[:at]
            at = 0
        elif len(held) - begin > MAXIMUM_BYTES:
            counts.update(records=1, too_long=1)
            return  # where it ends cannot be told within bounds
        else:
            del held[:begin]
            at -= begin
            begin = 0
    if begin is not None:
        counts.update(records=1, truncated=1)


def _ends_escaping(held: bytearray) -> bool:
    """Whether the last byte is a backslash that escapes what follows."""
    return (len(held) - len(held.rstrip(b"\\"))) % 2 == 1


def holds_records(path: Source, how: How) -> bool:
    """Whether the first object of a file has a text: else, among other files, it is about them.

    Read as far as the first object goes, within some megabytes.
    """
    sample = sample_of(path)
    encoding = encoding_of(sample)
    if encoding in WIDE:
        sample = sample.decode(encoding, "replace").encode("utf-8", "replace")
    if _is_lines(sample):
        pieces: Iterator[bytes] = (line for line in sample.removeprefix(_BOM).split(b"\n")[:20] if line.strip())
    else:
        pieces = _objects(iter([sample]), Counter())
    for piece in pieces:
        fields, _ = _parsed(piece, encoding)
        if isinstance(fields, dict) and document_of(fields, Counter(), how) is not None:
            return True
    return _TEXT_KEY.search(sample) is not None and b"}" not in sample  # longer than the sample


_TEXT_KEY = re.compile(rb'\{\s*"(?:text|content|raw_content)"\s*:\s*"')
