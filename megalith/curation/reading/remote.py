"""Files that lie elsewhere, read as if they lay here: https://, http://, s3://, gs:// and hf://.

A range at a time is fetched: little where something is looked up, more the longer a file is read in order, and then the
next range while this one is worked on. Nothing is written to disk; some tens of megabytes are held.
"""

import io
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from megalith import storage
from megalith.curation.reading.s3_ranges import S3Ranges
from megalith.storage.addresses import split_address

FIRST_BYTES, MOST_BYTES = 1 << 18, 1 << 23
"""Bytes of the first and of the largest range."""
KEPT = 3
"""Ranges that are kept for a look back."""


def address_of(source: Path | str) -> str | None:
    """The source as an address if it is one (of a store, or `cc:`), with the slash that a Path took off."""
    if not re.match(r"(https?|s3|gs|hf|cc):", str(source)):
        return None
    return re.sub(r"\b(https?|s3|gs|hf):/(?!/)", r"\1://", str(source))


def name_of(source: Path | str) -> str:
    """The last part of a path or an address, which tells the kind of file."""
    address = address_of(source)
    if address is None:
        return Path(source).name
    return unquote(split_address(address).path).rstrip("/").rpartition("/")[2]


def open_ranges(address: str) -> storage.Ranges:
    """The way to the file at an address: to S3 by Arrow's client, which needs no extra.

    Raises ResourceError where it cannot be had, UnsupportedError where the client of such addresses is not installed.
    """
    return S3Ranges(address) if address.startswith("s3:") else storage.open_ranges(address)


class RemoteFile(io.RawIOBase):
    """A file to read and seek in, and whose bytes can be sliced and searched as those of a memory map.

    Errors are Megalith's own, never OSError: readers take that for damage.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._ranges = open_ranges(address)
        self._thread = ThreadPoolExecutor(1)
        self._kept: list[tuple[int, bytes]] = []
        self._ahead: tuple[int, Future[bytes]] | None = None
        self._at = 0

    def __len__(self) -> int:
        return self._ranges.size

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, where: slice) -> bytes:
        start, stop, _ = where.indices(len(self))
        found = bytearray()
        while start + len(found) < stop:
            found += self._after(start + len(found))[: stop - start - len(found)]
        return bytes(found)

    def find(self, mark: bytes, start: int, stop: int) -> int:
        """Where `mark` is first found whole between `start` and `stop`, or -1."""
        while start < stop:
            piece = bytes(self._after(start))
            following = start + len(piece)
            piece += self[following : following + len(mark) - 1]
            if (place := piece.find(mark, 0, stop - start)) >= 0:
                return start + place
            start = following
        return -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self)}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= len(self):
            return 0
        piece = self._after(self._at)[: len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._ranges.close()
        super().close()

    def _after(self, place: int) -> memoryview:
        """Some bytes from `place` on, which is within the file."""
        for start, data in reversed(self._kept):
            if start <= place < start + len(data):
                return memoryview(data)[place - start :]
        before = next((len(data) for start, data in self._kept if start + len(data) == place), 0)
        if self._ahead is not None and self._ahead[0] == place:
            data = self._ahead[1].result()
        else:
            data = self._fetch(place, max(FIRST_BYTES, before * 4)).result()
        self._ahead = None
        self._kept = [*self._kept[1 - KEPT :], (place, data)]
        following = place + len(data)
        if before and following < len(self):
            self._ahead = following, self._fetch(following, len(data) * 4)
        return memoryview(data)

    def _fetch(self, start: int, count: int) -> Future[bytes]:
        return self._thread.submit(self._ranges.read, start, min(start + min(count, MOST_BYTES), len(self)))
