"""Where records begin and files end in WARC archives, plain, gzip, zstd: what finding the way behind damage wants.

Works on anything that can be sliced and searched: a memory map, or a remote file.
"""

import io
import mmap
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard

from megalith.curation.reading.opening import STEP_BYTES, WINDOW_BYTES
from megalith.curation.reading.remote import RemoteFile, address_of

GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
"""A skippable zstd frame with the dictionary of the frames behind it, as the Internet Archive writes them."""
RECORD_START = re.compile(rb"WARC/[01]\.\d+\r?\n(?=[\w-]+:)")
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
CONTENT_LENGTH = re.compile(rb"^Content-Length:[ \t]*(\d{1,18})(?!\d)", re.IGNORECASE | re.MULTILINE)
PROBE_BYTES = 1 << 16
GZIP_PROBE_BYTES = 1 << 10
"""Enough for a first line, however it is packed: deflate gives what it has, where zstd waits for its block's end."""
HEADER_BYTES = 1 << 20


class Data(Protocol):
    """All of a file's bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> bytes: ...

    def find(self, mark: bytes, start: int, stop: int, /) -> int: ...


class _Decompressing(Protocol):
    """As zlib and zstandard both have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, piece: bytes, /) -> bytes: ...


@contextmanager
def opened(source: Path | str) -> Iterator[tuple[BinaryIO, Data]]:
    """The file to be read, and the same to be looked things up in."""
    address = address_of(source)
    if address is not None:
        with RemoteFile(address) as remote:
            yield cast(BinaryIO, remote), remote
        return
    with Path(source).open("rb") as file:
        if not file.seek(0, io.SEEK_END):  # nothing cannot be mapped
            yield file, b""
            return
        file.seek(0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield file, data


class After(io.RawIOBase):
    """A file from where it stands, with a dictionary before it; it counts its bytes from there."""

    def __init__(self, dictionary: bytes, file: BinaryIO) -> None:
        self._before = io.BytesIO(dictionary)
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        piece = self._before.read(size) or self._file.read(size)
        self._at += len(piece)
        return piece


def dictionary_of(data: Data) -> bytes:
    """The frame with the dictionary that a file begins with, if it does."""
    if data[:4] != DICTIONARY_MAGIC:
        return b""
    return data[: 8 + int.from_bytes(data[4:8], "little")]


def has_bare_line_ends(data: Data, start: int) -> bool:
    """Whether the record at `start` ends its lines without a carriage return, as some tools write them."""
    begins = RECORD_START.match(_beginning(data, start))
    return begins is not None and not begins[0].endswith(b"\r\n")


def next_record(data: Data, start: int, stop: int) -> int | None:
    """Where the first whole-looking record from `start` on begins, if it does before `stop`."""
    marks = [ZSTD_MAGIC] if data[:4] in (ZSTD_MAGIC, DICTIONARY_MAGIC) else [GZIP_MAGIC]
    if not data[:4].startswith((GZIP_MAGIC, ZSTD_MAGIC, DICTIONARY_MAGIC)):
        marks.insert(0, b"WARC/")
    for mark in marks:
        at = start
        while (at := data.find(mark, at, min(stop + len(mark) - 1, len(data)))) >= 0:
            if RECORD_START.match(_beginning(data, at)):
                return at
            at += 1
    return None


def begins_a_record(data: Data, start: int) -> bool:
    """Whether a gzip member, a zstd frame or a plain record stands here, and the record begins with it."""
    return RECORD_START.match(_beginning(data, start)) is not None


def is_packed(data: Data, start: int) -> bool:
    """Whether a gzip member or a zstd frame stands here."""
    return data[start : start + 4].startswith((GZIP_MAGIC, ZSTD_MAGIC))


def end_of_member(data: Data, start: int) -> int | None:
    """Where the gzip member or zstd frame that begins here ends; None where it does not, or is damaged."""
    if data[start : start + len(GZIP_MAGIC)] == GZIP_MAGIC:
        return _end(data, start, zlib.decompressobj(zlib.MAX_WBITS | 16), PROBE_BYTES, zlib.error)
    return _end(data, start, zstd_of(data).decompressobj(), STEP_BYTES, zstandard.ZstdError)


def ends_the_file(data: Data, last: int) -> bool:
    """Whether the file ends where its last record, at `last`, does; a reader of a cut file just stops."""
    if is_packed(data, last):
        end = end_of_member(data, last)
    elif RECORD_START.match(data[last : last + 64]):
        header = data[last : last + HEADER_BYTES]
        blank = BLANK_LINE.search(header)
        length = CONTENT_LENGTH.search(header[: blank.end()]) if blank else None
        whole = blank is not None and length is not None and last + blank.end() + int(length[1]) <= len(data)
        end = last + blank.end() + int(length[1]) if whole and blank and length else None
    else:  # another compression
        return True
    return end is not None and not data[end : end + PROBE_BYTES].strip(b"\0\r\n")


def _beginning(data: Data, start: int) -> bytes:
    """The first bytes of a record, decompressed if it is a gzip member or a zstd frame."""
    first = data[start : start + 64]
    try:
        if first.startswith(GZIP_MAGIC):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[start : start + GZIP_PROBE_BYTES], 64)
        if first.startswith(ZSTD_MAGIC):
            for size in (GZIP_PROBE_BYTES, PROBE_BYTES):  # what is no frame says so at once
                if found := zstd_of(data).stream_reader(data[start : start + size]).read(64):
                    return found
            return b""
    except (zlib.error, zstandard.ZstdError):
        return b""
    return first


def _end(data: Data, start: int, record: _Decompressing, step: int, damage: type[Exception]) -> int | None:
    """Where a compressed record ends, decompressed some bytes at a time; None where it does not."""
    end = start
    try:
        while not record.eof and end < len(data):
            piece = data[end : end + step]
            record.decompress(piece)
            end += len(piece) - len(record.unused_data)
    except damage:
        return None
    return end if record.eof else None


def zstd_of(data: Data) -> zstandard.ZstdDecompressor:
    """With the dictionary of the file, which may be compressed itself."""
    raw = dictionary_of(data)[8:]
    if raw.startswith(ZSTD_MAGIC):
        raw = zstandard.ZstdDecompressor().stream_reader(raw).read(1 << 24)
    dictionary = zstandard.ZstdCompressionDict(raw) if raw else None
    return zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=WINDOW_BYTES)
