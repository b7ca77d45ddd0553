"""The encoding of a text file: UTF-8 unless its first bytes, or what is not UTF-8 in it, say otherwise.

A mark at the beginning is believed; then UTF-8, if bytes beyond ASCII are mostly valid in it; then UTF-16, by its
zeros; then what the bytes look like (resiliparse's detector), which for Western text is Windows-1252.
"""

import codecs
import io
import re
from typing import Any, BinaryIO

from resiliparse.parse.encoding import detect_encoding

SAMPLE_BYTES = 1 << 18
UTF8 = "utf-8"
WIDE = ("utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
"""Encodings in which a line does not end with the byte 10 alone."""
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_VALID = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")
_UNLIKELY = re.compile(rb"[\xfe\xff\x81\x8d\x8f\x90\x9d]")
"""Bytes that no Western text has: unassigned, or letters of Icelandic and of no French."""


def encoding_of(sample: bytes) -> str:
    """Python's name for the encoding of a file that begins with these bytes (some hundred thousand are enough)."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            # A mark of two bytes alone is damage as often as an encoding: text in UTF-16 has zeros.
            if name == "utf-16" and not _has_zeros(sample[2:]) and _is_utf8_beyond(sample[2:]):
                continue
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        pass
    else:
        return _by_zeros(sample) or UTF8
    by_zeros = _by_zeros(sample)
    if by_zeros is not None:
        return by_zeros
    valid = _VALID.findall(sample)
    others = len(_HIGH.findall(sample)) - sum(map(len, valid))
    if len(valid) >= others or 2 * len(_UNLIKELY.findall(_VALID.sub(b"", sample))) > others:
        return UTF8
    found = detect_encoding(sample, from_html_meta=False) or "cp1252"
    return "cp1252" if found.lower().replace("_", "-") in (UTF8, "ascii", "utf8") else str(found)


def _by_zeros(sample: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of Western text is zero."""
    head = sample[: 1 << 12]
    half = len(head) // 2
    if half < 4:
        return None
    first, second = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if second > 0.4 * half and first < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if first > 0.4 * half and second < 0.1 * half else None


def _has_zeros(sample: bytes) -> bool:
    return 0 in sample[: 1 << 12]


def _is_utf8_beyond(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


class Recoded(io.RawIOBase):
    """A file's content in UTF-8, whatever encoding it is in; what cannot be decoded becomes U+FFFD."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._held = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and not self._ended:
            piece = self._file.read(1 << 16)
            self._ended = not piece
            self._held = memoryview(self._decoder.decode(piece, final=not piece).encode("utf-8", "replace"))
        count = min(len(buffer), len(self._held))
        buffer[:count], self._held = self._held[:count], self._held[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
