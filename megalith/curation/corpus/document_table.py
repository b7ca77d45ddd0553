"""The small columns of all documents, in memory: some 60 bytes a document, whatever its text.

They are read partition by partition from the `documents` artifact. A document is named here by its row, its place among
all partitions; what is decided never depends on that place.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from megalith.errors import InputError
from megalith.ngrams.sorted_sets import different
from megalith.ngrams.words import MIX
from megalith.system_limits import limit_reached

Array = npt.NDArray[Any]

EARLIER = -1
"""The dataset of documents of earlier artifacts: before all others, and not part of what is made."""
REFERENCE = -2
"""The dataset of documents that only the classifier learns from."""


@dataclass(frozen=True)
class Partition:
    """A unit's documents in a `documents` artifact."""

    documents: Path
    number: int
    dataset: int
    rows: int

    @property
    def task(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"documents": str(self.documents)}

    @staticmethod
    def of_task(task: Mapping[str, Any]) -> "Partition":
        return Partition(Path(task["documents"]), task["number"], task["dataset"], task["rows"])

    @property
    def of(self) -> int:
        """The place of its dataset among all, those that are there to learn from included."""
        return REFERENCE - self.dataset if self.dataset <= REFERENCE else self.dataset

    @property
    def text(self) -> Path:
        return self.documents / "text" / f"{self.number:05d}.parquet"

    @property
    def signatures(self) -> Path:
        return self.documents / "signatures" / f"{self.number:05d}.u32"

    @property
    def bands(self) -> Path:
        return self.documents / "bands" / f"{self.number:05d}.u64"

    @property
    def names(self) -> list[str]:
        """The names of the columns beside each text."""
        found: list[str] = pq.read_schema(self.text).names
        return found

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows."""
        with _readable(self.text):
            return pq.read_table(self.text, columns=list(columns), use_threads=False)

    def batches(self, rows: Array, columns: Sequence[str]) -> Iterator[tuple[Array, pa.Table]]:
        """The rows asked for (ascending), a row group at a time: their numbers, and their columns."""
        if not len(rows):
            return
        with _readable(self.text):
            opened = pq.ParquetFile(self.text)
        with opened as file:
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                first, last = np.searchsorted(rows, [start, stop])
                if last > first:
                    with _readable(self.text):
                        table = file.read_row_group(group, columns=list(columns), use_threads=False)
                    chosen = rows[first:last]
                    whole = last - first == stop - start
                    yield chosen, table if whole else table.take(pa.array(chosen - start))
                start = stop


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise limit_reached(error) or InputError(
            f"these documents cannot be read: {' '.join(str(error).split())}",
            where=str(path),
            mend=f"Remove {path.parents[1]} and run the same command again: it is made anew.",
        ) from error


class Columns:
    """One entry a document."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self.partitions = list(partitions)
        self.bounds = np.concatenate([[0], np.cumsum([part.rows for part in partitions])]).astype(np.int64)
        count = int(self.bounds[-1])
        self.dataset = np.repeat(
            np.array([part.dataset for part in partitions], np.int16), [part.rows for part in partitions]
        )
        self.identity = np.zeros((count, 2), np.uint64)
        """The digest of the text."""
        self.copy = np.zeros(count, np.uint64)
        """Tells documents of one text apart."""
        self.fingerprint = np.zeros((count, 2), np.uint64)
        self.bytes = np.zeros(count, np.uint32)
        self.quality = np.zeros(count, np.float32)
        self.reason = np.zeros(count, np.int16)
        """Why it is dropped: a place in the funnel's list, 0 while it is not."""
        self.kept: Array = np.full(count, -1, np.int64 if count > 2**31 - 1 else np.int32)
        """For a duplicate, the row of the kept copy."""
        self.validation = np.zeros(count, np.bool_)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def alive(self) -> Array:
        """The rows that nothing has dropped so far."""
        return np.flatnonzero((self.reason == 0) & (self.dataset >= 0))

    def span(self, place: int) -> slice:
        """The rows of a partition."""
        return slice(int(self.bounds[place]), int(self.bounds[place + 1]))

    def by_partition(self, rows: Array) -> Iterator[tuple[int, Array]]:
        """The partitions that have some of the ascending `rows`, and these, numbered from each one's own first."""
        ends = np.searchsorted(rows, self.bounds)
        for place in np.flatnonzero(np.diff(ends)).tolist():
            yield place, rows[ends[place] : ends[place + 1]] - self.bounds[place]

    def order(self, rows: Array) -> Array:
        """The rows in the order in which copies are preferred.

        By the dataset that stands first, then quality, then the longest text, then id, then URL.
        """
        high, low = self.identity[rows].T
        keys = (self.copy[rows], low, high, -self.bytes[rows].astype(np.int64), -self.quality[rows], self.dataset[rows])
        ordered: Array = rows[np.lexsort(keys)]
        return ordered

    def name(self, row: int) -> str:
        """A document's id."""
        (name,) = names(self.identity[[row]])
        return name

    def drawn(self, rows: Array, seed: int, most: int) -> Array:
        """At most so many of the rows, drawn by the documents and the seed alone, in the order of the draw."""
        keys = (self.identity[rows, 0] ^ np.uint64(seed)) * MIX ^ self.copy[rows]
        keys = (keys ^ (keys >> np.uint64(33))) * MIX
        few = np.argpartition(keys, most - 1)[:most] if len(rows) > most else np.arange(len(rows))
        chosen: Array = rows[few[np.lexsort([self.copy[rows[few]], keys[few]])]]
        return chosen

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """These columns of a few documents, wherever they are."""
        ordered = different(np.array(rows, np.int64))
        return {
            row: values
            for some, table in self.batches(ordered, columns)
            for row, values in zip(some.tolist(), table.to_pylist(), strict=True)
        }

    def batches(self, rows: Array, columns: Sequence[str]) -> Iterator[tuple[Array, pa.Table]]:
        """The rows asked for (ascending), a row group at a time, and their columns."""
        for place, within in self.by_partition(rows):
            for chosen, table in self.partitions[place].batches(within, columns):
                yield chosen + self.bounds[place], table


def names(identity: Array) -> list[str]:
    """The ids of documents, of their digests as two numbers each, (documents, 2)."""
    spelled = identity.astype(">u8").tobytes().hex()
    return [spelled[at : at + 32] for at in range(0, len(spelled), 32)]


def halves(column: pa.ChunkedArray) -> Array:
    """A column of 16-byte digests as two numbers each, (documents, 2)."""
    whole = column.combine_chunks()
    pieces = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    made = [
        np.frombuffer(piece.buffers()[1], ">u8", 2 * len(piece), 16 * piece.offset).reshape(-1, 2)
        for piece in pieces
        if len(piece)
    ]
    return np.concatenate(made).astype(np.uint64) if made else np.zeros((0, 2), np.uint64)
