"""The small columns of all documents, in files: what decisions look at, and what they have decided so far.

A chunk is the documents of neighbouring partitions, half a million or of one partition; its columns are one file of
fixed records, so that a task holds one chunk, or reads single rows of others. A document is named by its row, its place
among all partitions; what is decided never depends on that place. A pass that changes records writes them anew, as the
next version.
"""

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from megalith.curation.corpus.document_table import EARLIER, RECORD, Array, Columns, Partition
from megalith.curation.exchange import unsynced
from megalith.ngrams.sorted_sets import different

CHUNK_ROWS = 1 << 19
FEWEST_ROWS = 1 << 16
CHUNKS = 16
"""So many at least, where there are documents enough for FEWEST_ROWS in each."""
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
    version: int = 0

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
        return np.searchsorted([chunk.base for chunk in self.chunks], rows.astype(np.int64), side="right") - 1

    @property
    def next(self) -> "Table":
        """The version after this one."""
        return replace(self, version=self.version + 1)

    def remove(self) -> None:
        """Remove this version."""
        for chunk in self.chunks:
            for path in (self._path(chunk.number), self._reasons(chunk.number)):
                path.unlink(missing_ok=True)

    def new(self, number: int) -> Columns:
        """A chunk of which nothing is known yet."""
        chunk = self.chunk(number)
        return Columns(self.partitions(chunk.first, chunk.end), number=number, base=chunk.base)

    def open(self, number: int) -> Columns:
        """The columns of a chunk."""
        chunk = self.chunk(number)
        partitions = self.partitions(chunk.first, chunk.end)
        return Columns(partitions, self.records(number), number=number, base=chunk.base, reasons=self.reasons(number))

    def save(self, columns: Columns) -> None:
        """Write the columns of a chunk."""
        with unsynced(self._reasons(columns.number)) as path:
            path.write_text(json.dumps(columns.reasons))
        with unsynced(self._path(columns.number)) as path:
            columns.records.tofile(path)

    def reasons(self, number: int) -> list[tuple[str, str]]:
        """Step and reason by the numbers that a chunk's records have for them."""
        return [(step, reason) for step, reason in json.loads(self._reasons(number).read_text())]

    def records(self, number: int) -> Array:
        """The records of a chunk."""
        return np.fromfile(self._path(number), RECORD)

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

    def batches(self, rows: Array, columns: Sequence[str]) -> Iterator[tuple[Array, pa.Table]]:
        """These ascending rows, a row group at a time, and columns of the `documents` artifact."""
        for partition, base, within in self._by_partition(rows):
            for chosen, table in partition.batches(within, columns):
                yield chosen + base, table

    def shown(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """These columns of a few documents, wherever they are."""
        return {
            row: values
            for some, table in self.batches(different(np.array(rows, np.int64)), columns)
            for row, values in zip(some.tolist(), table.to_pylist(), strict=True)
        }

    def keys(self, number: int, bands: int) -> Array:
        """The MinHash keys of a chunk, uint64 (bands, rows)."""
        chunk = self.chunk(number)
        made = np.empty((bands, chunk.rows), np.uint64)
        done = 0
        for partition in self.partitions(chunk.first, chunk.end):
            found = np.fromfile(partition.bands, np.uint64).reshape(bands, partition.rows)
            made[:, done : done + partition.rows] = found
            done += partition.rows
        return made

    def keys_of(self, rows: Array, band: int) -> Array:
        """One band's keys of these ascending rows, uint64 (rows,)."""
        made = [np.zeros(0, np.uint64)]
        for partition, _, within in self._by_partition(rows):
            found = _rows_of_file(partition.bands, made[0].itemsize, within + band * partition.rows)
            made.append(found.reshape(-1).view(np.uint64))
        return np.concatenate(made)

    def signatures_of(self, rows: Array, hashes: int) -> Array:
        """The signatures of these ascending rows, uint32 (rows, hashes)."""
        made = np.empty((len(rows), hashes), np.uint32)
        done = 0
        for partition, _, within in self._by_partition(rows):
            found = _rows_of_file(partition.signatures, hashes * made.itemsize, within)
            made[done : done + len(within)] = found.view(np.uint32)
            done += len(within)
        return made

    def partitions(self, first: int = 0, end: int | None = None) -> list[Partition]:
        """The partitions from `first` up to `end`."""
        documents = [Path(place) for place in self._about["documents"]]
        held = np.load(self.folder / "partitions.npy", mmap_mode="r")[first:end]
        return [Partition(documents[place], *others) for place, *others in held.tolist()]

    def first_rows(self, places: Sequence[int]) -> list[int]:
        """The first row of each of these partitions."""
        found: list[int] = np.load(self.folder / "bounds.npy", mmap_mode="r")[list(places)].tolist()
        return found

    def _by_partition(self, rows: Array) -> Iterator[tuple[Partition, int, Array]]:
        """The partitions that have some of the ascending rows, each one's first row, and the rows counted from it."""
        if not len(rows):
            return
        bounds = np.load(self.folder / "bounds.npy", mmap_mode="r")
        rows = rows.astype(np.int64)
        of = np.searchsorted(bounds, rows, side="right") - 1
        starts = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
        for first, last in zip(starts.tolist(), np.append(starts[1:], len(of)).tolist(), strict=True):
            place = int(of[first])
            (partition,) = self.partitions(place, place + 1)
            yield partition, int(bounds[place]), rows[first:last] - int(bounds[place])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}-{self.version:02d}.records"

    def _reasons(self, number: int) -> Path:
        return self.folder / f"{number:05d}-{self.version:02d}.json"

    @property
    def _about(self) -> Mapping[str, Any]:
        path = self.folder / "table.json"
        return _read(path, path.stat().st_mtime_ns)


def standing(records: Array) -> Array:
    """The places of the documents that nothing has dropped, those of earlier artifacts among them."""
    return np.flatnonzero((records["reason"] == 0) & (records["dataset"] >= EARLIER))


def preferred(records: Array) -> tuple[Array, ...]:
    """Keys for `np.lexsort` that put records into the order in which copies are preferred.

    By the dataset that stands first, then quality, then the longest text, then id, then URL.
    """
    high, low = records["identity"].T
    return (records["copy"], low, high, -records["bytes"].astype(np.int64), -records["quality"], records["dataset"])


@functools.lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Mapping[str, Any]:
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
