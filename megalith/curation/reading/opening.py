"""Opens a file of this machine or behind an address, and decompresses it as its name says, bounded pieces at a time."""

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from megalith.curation.reading.remote import RemoteFile, address_of, name_of
from megalith.errors import InputError

STEP_BYTES = 1 << 10
"""Bytes of a .zst file decompressed at once: they can hold 32 MB."""

WINDOW_BYTES = 1 << 27
"""Largest window of zstd, the default of `zstd -d` (--long=27)."""

Source = Path | str
"""A file of this machine, or an address."""


def open_file(source: Source) -> BinaryIO:
    """A file's content, decompressed where its name says that it is compressed."""
    name = name_of(source).lower()
    if name.endswith(".gz"):
        return cast(BinaryIO, _Gzip(open_bytes(source)))
    if name.endswith(".zst"):
        return io.BufferedReader(_Zstandard(open_bytes(source), str(source)))
    return open_bytes(source)


def open_bytes(source: Source) -> BinaryIO:
    """A file's bytes, which are fetched as they are read if it lies behind an address."""
    address = address_of(source)
    return Path(source).open("rb") if address is None else io.BufferedReader(RemoteFile(address), 1 << 20)


class _Gzip(gzip.GzipFile):
    """The content of a .gz file, which is closed with it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


class _Zstandard(io.RawIOBase):
    """The content of a .zst file. zstandard's own reader ends without a word in a frame cut off; this one raises."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._frame: Any = None
        self._unread = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            piece = self._unread or self._file.read(STEP_BYTES)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last frame is cut off")
                return 0
            if self._frame is None:
                self._check_window(piece)
                self._frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
            self._content = memoryview(self._frame.decompress(piece))
            self._unread = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count

    def _check_window(self, frame: bytes) -> None:
        try:
            window = zstandard.get_frame_parameters(frame).window_size
        except zstandard.ZstdError:  # unpacking it says what is wrong
            return
        if window > WINDOW_BYTES:
            raise InputError(
                f"unpacking this file takes {window >> 20:,} MiB of memory, and {WINDOW_BYTES >> 20} are allowed.",
                where=self._name,
                mend="Pack it anew: zstd -dc --long=31 FILE | zstd -o NEW.zst",
            )
