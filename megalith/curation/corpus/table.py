"""The small columns of all documents, in files: what decisions look at, and what they have decided so far.

A chunk is the documents of neighbouring partitions, half a million or of one partition; its columns are one file of
fixed records, so that a task holds one chunk, or reads single rows of others. A document is named by its row, its place
among all partitions; what is decided never depends on that place.
"""

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import EARLIER, Array, Partition
from megalith.curation.exchange import unsynced

CHUNK_ROWS = 1 << 19
FEWEST_ROWS = 1 << 16
CHUNKS = 16
"""So many at least, where there are documents enough for FEWEST_ROWS in each."""
RECORD = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("copy", "<u8"),
        ("mark_high", "<u8"),
        ("mark_low", "<u8"),
        ("bytes", "<u4"),
        ("quality", "<f4"),
        ("reason", "<i4"),
        ("dataset", "<i2"),
    ]
)
"""A document: the digest of its text, what tells documents of one text apart, its fingerprint, its size, its score, why
it was dropped (0 while it is not), its data set."""
_ROW = np.dtype([("place", "<u2"), ("number", "<u4"), ("dataset", "<i4"), ("rows", "<u4")])


@dataclass(frozen=True)
class Chunk:
    """The partitions from `first` up to `end`, and their rows from `base` on."""

    number: int
    first: int
    end: int
    base: int
    rows: int


@dataclass(frozen=True)
class Table:
    """The columns under a folder. It is small itself, and may go to any process."""

    folder: Path

    @staticmethod
    def create(folder: Path, partitions: Sequence[Partition]) -> "Table":
        """Lay out the chunks of these partitions; no record is written yet."""
        folder.mkdir(parents=True, exist_ok=True)
        places = list(dict.fromkeys(partition.documents for partition in partitions))
        number_of = {place: number for number, place in enumerate(places)}
        made = np.array([(number_of[one.documents], one.number, one.dataset, one.rows) for one in partitions], _ROW)
        bounds = np.concatenate([[0], np.cumsum(made["rows"], dtype=np.int64)])
        most = min(CHUNK_ROWS, max(FEWEST_ROWS, -(-int(bounds[-1]) // CHUNKS)))
        chunks: list[list[int]] = []
        first = 0
        while first < len(made):
            end = max(first + 1, int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1)
            chunks.append([len(chunks), first, end, int(bounds[first]), int(bounds[end] - bounds[first])])
            first = end
        np.save(folder / "partitions.npy", made)
        np.save(folder / "bounds.npy", bounds)
        (folder / "table.json").write_text(json.dumps({"documents": list(map(str, places)), "chunks": chunks}))
        return Table(folder)

    @property
    def chunks(self) -> list[Chunk]:
        return [Chunk(*one) for one in self._about["chunks"]]

    def __len__(self) -> int:
        return int(np.load(self.folder / "bounds.npy", mmap_mode="r")[-1])

    def chunk(self, number: int) -> Chunk:
        """The chunk of a number."""
        return Chunk(*self._about["chunks"][number])

    def chunk_of(self, rows: Array) -> Array:
        """The numbers of the chunks in which these rows are."""
        return np.searchsorted([chunk.base for chunk in self.chunks], rows, side="right") - 1

    def records(self, number: int) -> Array:
        """The records of a chunk."""
        return np.fromfile(self._path(number), RECORD)

    def write(self, number: int, records: Array) -> None:
        """Set the records of a chunk."""
        with unsynced(self._path(number)) as path:
            records.tofile(path)

    def take(self, rows: Array) -> Array:
        """The records of these ascending rows, wherever they are."""
        made = np.empty(len(rows), RECORD)
        of_chunk = self.chunk_of(rows)
        for number in np.unique(of_chunk).tolist():
            first, last = np.searchsorted(of_chunk, [number, number + 1])
            within = rows[first:last].astype(np.int64) - self.chunk(number).base
            found = _rows_of_file(self._path(number), RECORD.itemsize, within)
            made[first:last] = found.reshape(-1).view(RECORD)
        return made

    def keys(self, number: int, bands: int) -> Array:
        """The MinHash keys of a chunk, uint64 (bands, rows)."""
        chunk = self.chunk(number)
        made = np.empty((bands, chunk.rows), np.uint64)
        done = 0
        for partition in self._partitions(chunk.first, chunk.end):
            found = np.fromfile(partition.bands, np.uint64).reshape(bands, partition.rows)
            made[:, done : done + partition.rows] = found
            done += partition.rows
        return made

    def keys_of(self, rows: Array, band: int) -> Array:
        """One band's keys of these ascending rows, uint64 (rows,)."""
        made = np.empty(len(rows), np.uint64)
        for partition, first, last, within in self._by_partition(rows):
            found = _rows_of_file(partition.bands, made.itemsize, within + band * partition.rows)
            made[first:last] = found.reshape(-1).view(made.dtype)
        return made

    def signatures_of(self, rows: Array, hashes: int) -> Array:
        """The signatures of these ascending rows, uint32 (rows, hashes)."""
        made = np.empty((len(rows), hashes), np.uint32)
        for partition, first, last, within in self._by_partition(rows):
            made[first:last] = _rows_of_file(partition.signatures, hashes * made.itemsize, within).view(made.dtype)
        return made

    def _by_partition(self, rows: Array) -> Iterator[tuple[Partition, int, int, Array]]:
        """The partitions that have some of the ascending rows, which these are, and their numbers within it."""
        bounds = np.load(self.folder / "bounds.npy", mmap_mode="r")
        of = np.searchsorted(bounds, rows.astype(np.int64), side="right") - 1
        starts = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: len(of)])
        for first, last in zip(starts.tolist(), np.append(starts[1:], len(of)).tolist(), strict=True):
            place = int(of[first])
            (partition,) = self._partitions(place, place + 1)
            yield partition, first, last, rows[first:last].astype(np.int64) - int(bounds[place])

    def _partitions(self, first: int, end: int) -> list[Partition]:
        documents = self._about["documents"]
        held = np.load(self.folder / "partitions.npy", mmap_mode="r")[first:end]
        return [Partition(Path(documents[place]), *others) for place, *others in held.tolist()]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.records"

    @property
    def _about(self) -> dict[str, Any]:
        path = self.folder / "table.json"
        return _read(path, path.stat().st_mtime_ns)


def standing(records: Array) -> Array:
    """The places of the documents that nothing has dropped, those of earlier artifacts among them."""
    return np.flatnonzero((records["reason"] == 0) & (records["dataset"] >= EARLIER))


def preferred(records: Array) -> tuple[Array, ...]:
    """Keys for `np.lexsort` that put records into the order in which copies are preferred.

    By the dataset that stands first, then quality, then the longest text, then id, then URL.
    """
    return (
        records["copy"],
        records["low"],
        records["high"],
        -records["bytes"].astype(np.int64),
        -records["quality"],
        records["dataset"],
    )


@functools.lru_cache(maxsize=4)
def _read(path: Path, _: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _rows_of_file(path: Path, size: int, rows: Array) -> Array:
    """These rows of a file of records of `size` bytes, uint8 (rows, size): each by itself, or most of it at once."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first <= 4 * len(rows):
        held = np.fromfile(path, np.uint8, (last - first) * size, offset=first * size).reshape(-1, size)
        chosen: Array = held[rows - first]
        return chosen
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = b"".join(os.pread(descriptor, size, row * size) for row in rows.tolist())
    finally:
        os.close(descriptor)
    return np.frombuffer(found, np.uint8).reshape(-1, size)
