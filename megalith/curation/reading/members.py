"""A WARC whose gzip members or zstd frames are not its records: compressed as a whole, or in blocks of any size.

`gunzip | gzip` and `zstd` make one member of a file, bgzip and pigz many that begin anywhere. Its content is read as
one plain WARC, from a member with which a record begins up to the next such member behind the part's end, which is
where the reader of the next part begins. Behind damage in the content the next record is looked for there; behind
damage of the compression nothing of the member can be read.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecord

from megalith.curation.reading.archive import (
    GZIP_MAGIC,
    RECORD_START,
    Data,
    begins_a_record,
    is_packed,
    zstd_of,
)
from megalith.curation.reading.opening import STEP_BYTES

LOOK_BACK_BYTES = 1 << 22
"""So much of the content that a reader has taken can be looked at again."""
_PIECE_BYTES = 1 << 16
_NEAR_DAMAGE_BYTES = 256
"""Unpacked at once where a larger piece has failed: an error gives nothing of its piece."""


class Members(io.RawIOBase):
    """The content of the members of a file from one on, as far as where a record begins with a member behind `stop`.

    Nothing from `end` on is looked at.
    """

    def __init__(self, data: Data, start: int, stop: int, end: int | None = None) -> None:
        super().__init__()
        self._data = data
        self._at = start
        self._stop = stop
        self._end = len(data) if end is None else end
        self._member: Any = None
        self._gzipped = False
        self._step = _PIECE_BYTES
        self._waiting = b""
        self._content = memoryview(b"")
        self._back = bytearray()
        self.taken = 0
        """Bytes of content that were given out."""
        self.failure: int | None = None
        """Where in the file the compression is damaged or cut off, if it is."""
        self.cut = False
        """Whether it is cut off there."""

    @property
    def following(self) -> int:
        """Where in the file the reading has come to: the beginning of the next part once the content has ended."""
        return self._at

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.taken

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            if self.failure is not None or not self._unpack():
                return 0
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        self._back += bytes(buffer[:count])
        self.taken += count
        if len(self._back) > 2 * LOOK_BACK_BYTES:
            del self._back[:-LOOK_BACK_BYTES]
        return count

    def return_to(self, place: int) -> int:
        """Give out the content again from a place on, or from as far back as it is held; returns that place."""
        count = min(self.taken - place, len(self._back))
        again = bytes(self._back[len(self._back) - count :]) if count > 0 else b""
        self._content = memoryview(again + bytes(self._content))
        del self._back[len(self._back) - len(again) :]
        self.taken -= len(again)
        return self.taken

    def find_record(self) -> bool:
        """Pass to the next record that begins in the content; false where there is none."""
        held = bytearray()
        while piece := self.read(_PIECE_BYTES):
            held += piece
            found = RECORD_START.search(held)
            if found:
                self.return_to(self.taken - len(held) + found.start())
                return True
            del held[: max(0, len(held) - 256)]
        return False

    def _unpack(self) -> bool:
        """Unpack some more; false at the end."""
        if self._member is None:
            if self._at >= self._end or not is_packed(self._data, self._at):
                rest = self._data[self._at : min(self._at + _PIECE_BYTES, self._end)].strip(b"\0\r\n")
                self.failure = self._at if rest else None
                return False
            if self._at >= self._stop and begins_a_record(self._data, self._at):
                return False
            gzipped = self._gzipped = self._data[self._at : self._at + 3] == GZIP_MAGIC
            self._member = zlib.decompressobj(zlib.MAX_WBITS | 16) if gzipped else zstd_of(self._data).decompressobj()
            self._step = _PIECE_BYTES if gzipped else STEP_BYTES
            self._waiting = b""
        piece = self._waiting or self._data[self._at : min(self._at + self._step, self._end)]
        if not piece:
            self.failure, self.cut = self._at, True
            return False
        before = self._member.copy() if self._gzipped and self._step > _NEAR_DAMAGE_BYTES else None
        try:
            if not self._gzipped:
                content, waiting = self._member.decompress(piece), b""
            else:
                content = self._member.decompress(piece, 1 << 20)
                waiting = self._member.unconsumed_tail
        except (zlib.error, zstandard.ZstdError):
            if before is None:
                self.failure = self._at
                return False
            self._member, self._step, self._waiting = before, _NEAR_DAMAGE_BYTES, b""  # what stands before the damage
            return True
        self._at += len(piece) - len(self._member.unused_data) - len(waiting)
        self._waiting = waiting
        self._content = memoryview(content)
        if self._member.eof:
            self._member = None
        return True


def records_of(members: Members, passed: int, counts: Counter[str], bare: bool) -> Iterator[WarcRecord]:
    """The records of the content but for the first ones, which were read already. What is damaged is counted.

    `bare` says that lines end without a carriage return.
    """
    while True:
        last = members.taken
        broken = False
        try:
            for record in ArchiveIterator(cast(BinaryIO, members), parse_http=False, quirks_mode=bare):
                last = record.stream_pos
                if passed:
                    passed -= 1
                    continue
                yield record
        except OSError:
            broken = members.failure is None
        if not broken and (members.failure is not None or not members.read(1)):
            return
        counts.update(records=1, damaged=1)
        members.return_to(last + 1)
        if not members.find_record():
            return
