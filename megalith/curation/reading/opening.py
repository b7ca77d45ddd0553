"""Opens a file of this machine or behind an address, and decompresses it by its first bytes, bounded pieces at a time.

A name tells how a file is compressed; where its content says otherwise, the content is believed.
"""

import bz2
import gzip
import io
import lzma
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import zstandard

from megalith.curation.reading.document import Source
from megalith.curation.reading.remote import RemoteFile, address_of, name_of
from megalith.errors import InputError

STEP_BYTES = 1 << 10
"""Bytes of a .zst file decompressed at once: they can hold 32 MB."""

WINDOW_BYTES = 1 << 27
"""Largest window of zstd, the default of `zstd -d` (--long=27)."""
MEASURED_BYTES = 1 << 20
"""Bytes of content by which the rest of it is measured."""
XZ_BYTES = 1 << 28
"""Memory that unpacking a .xz may take: `xz -9` wants a quarter of it."""
UNPACKED_BYTES = 1 << 20
"""Bytes of a .bz2 or .xz that are unpacked at once."""
PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".lz4")
"""Endings of names of compressed files; .lz4 is read of WARC alone."""
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz"))
_SKIPPABLE = tuple(bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16))
"""How a skippable frame of zstd begins."""

DAMAGE = (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, lzma.LZMAError)
"""Raised where a compressed file is damaged; EOFError where it is cut short."""


def open_file(source: Source) -> BinaryIO:
    """A file's content, decompressed where it is compressed."""
    file = open_bytes(source)
    kind = compression_of(file, name_of(source))
    return file if kind is None else _unpacked(file, kind, str(source))


def _unpacked(file: BinaryIO, kind: str, name: str) -> BinaryIO:
    """The content of a file that is compressed in that way; of another kind (.lz4), its bytes."""
    match kind:
        case ".gz":
            return cast(BinaryIO, _Gzip(file))
        case ".zst":
            return io.BufferedReader(_Zstandard(file, name))
        case ".bz2" | ".xz":
            return io.BufferedReader(_Unpacked(file, kind))
    return file


def compression_of(file: BinaryIO, name: str) -> str | None:
    """How the content of a file, which stands at its beginning, is compressed; None if it is not.

    Content that begins like nothing known is taken for what the name says.
    """
    head = file.read(6)
    file.seek(0)
    if head.startswith(_SKIPPABLE):
        return ".zst"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    named = next((ending for ending in PACKED if name.lower().endswith(ending)), None)
    if named is None or not head or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):  # packed in name alone
        return None
    return ".zst" if named == ".zstd" else named


def measured(path: Path) -> tuple[str | None, int]:
    """How a file of this machine is compressed, and about how many bytes its content has, by its first megabyte."""
    length = path.stat().st_size
    with path.open("rb") as packed:
        kind = compression_of(packed, path.name)
        if kind is None:
            return None, length
        content = 0
        try:
            with _unpacked(packed, kind, str(path)) as file:
                while content < MEASURED_BYTES and (piece := file.read(1 << 20)):
                    content += len(piece)
                return kind, content * length // max(1, packed.tell())
        except (EOFError, *DAMAGE):
            return kind, content


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


class _Decompressor(Protocol):
    """As bz2 and lzma both have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, piece: bytes, /, max_length: int) -> bytes: ...


class _Packed(io.RawIOBase):
    """The content of a packed file, unpacked a piece at a time as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._unread = b""
        """Packed bytes that have been read behind the end of a stream."""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            content = self._next()
            if content is None:
                return 0
            self._content = memoryview(content)
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count

    @abstractmethod
    def _next(self) -> bytes | None:
        """The next piece of the content, which may be empty; None at the end. Raises EOFError where it is cut off."""


class _Unpacked(_Packed):
    """The content of a .bz2 or .xz file, of as many streams as it has; zeros behind a stream pad it."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        super().__init__(file)
        self._kind = kind
        self._stream: _Decompressor | None = None

    def _next(self) -> bytes | None:
        stream = self._stream
        piece = b""
        if stream is None or stream.needs_input:
            piece = self._unread or self._file.read(1 << 16)
            self._unread = b""
            if stream is None:
                piece = piece.lstrip(b"\0")
            if not piece:
                if stream is None:
                    return None
                raise EOFError("the last stream is cut off")
        if stream is None:
            stream = self._stream = self._begin()
        try:
            content = stream.decompress(piece, max_length=UNPACKED_BYTES)
        except OSError as error:  # bz2's word for damage
            raise zlib.error(str(error)) from error
        if stream.eof:
            self._unread, self._stream = stream.unused_data, None
        return content

    def _begin(self) -> _Decompressor:
        made: Any = bz2.BZ2Decompressor() if self._kind == ".bz2" else lzma.LZMADecompressor(memlimit=XZ_BYTES)
        return cast(_Decompressor, made)


class _Zstandard(_Packed):
    """The content of a .zst file. zstandard's own reader ends without a word in a frame cut off; this one raises."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file)
        self._name = name
        self._frame: Any = None

    def _next(self) -> bytes | None:
        piece = self._unread or self._file.read(STEP_BYTES)
        if not piece:
            if self._frame is not None:
                raise EOFError("the last frame is cut off")
            return None
        if self._frame is None:
            self._check_window(piece)
            self._frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()
        content: bytes = self._frame.decompress(piece)
        self._unread = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return content

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
