"""Documents as decisions see them: partitions of the `documents` artifact, and the small columns of some of these.

A document is 63 bytes here, whatever its text. `corpus.table` has those of all documents, in files.
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


RECORD = np.dtype(
    [
        ("identity", "<u8", (2,)),
        ("fingerprint", "<u8", (2,)),
        ("copy", "<u8"),
        ("kept", "<i8"),
        ("bytes", "<u4"),
        ("quality", "<f4"),
        ("reason", "<i4"),
        ("dataset", "<i2"),
        ("validation", "?"),
    ]
)
"""A document: see the properties of `Columns`."""


class Columns:
    """One entry a document of neighbouring partitions: views on their records, which may be set."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        records: Array | None = None,
        *,
        number: int = 0,
        base: int = 0,
        reasons: Sequence[tuple[str, str]] = (("", ""),),
    ) -> None:
        self.partitions = list(partitions)
        self.bounds = np.concatenate([[0], np.cumsum([part.rows for part in partitions])]).astype(np.int64)
        self.number = number
        """The chunk, among all."""
        self.base = base
        """The row, among all documents, of the first."""
        self.reasons = list(reasons)
        """Step and reason by the number that stands in `reason`."""
        if records is None:
            records = np.zeros(len(self), RECORD)
            records["dataset"] = np.repeat([part.dataset for part in partitions], [part.rows for part in partitions])
            records["kept"] = -1
        self.records = records
        self.dropped: dict[tuple[int, str, str], list[int]] = {}
        """Documents and bytes by data set, step and reason, of what has been dropped here."""

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def dataset(self) -> Array:
        return self.records["dataset"]

    @property
    def identity(self) -> Array:
        """The digest of the text, (documents, 2)."""
        return self.records["identity"]

    @property
    def copy(self) -> Array:
        """Tells documents of one text apart."""
        return self.records["copy"]

    @property
    def fingerprint(self) -> Array:
        """Equal for exact duplicates, (documents, 2)."""
        return self.records["fingerprint"]

    @property
    def bytes(self) -> Array:
        return self.records["bytes"]

    @property
    def quality(self) -> Array:
        return self.records["quality"]

    @property
    def reason(self) -> Array:
        """Why it is dropped: a place in `reasons`, 0 while it is not."""
        return self.records["reason"]

    @property
    def kept(self) -> Array:
        """For a duplicate, the row among all documents of the kept copy; else -1."""
        return self.records["kept"]

    @property
    def validation(self) -> Array:
        return self.records["validation"]

    @property
    def alive(self) -> Array:
        """The rows that nothing has dropped so far."""
        return np.flatnonzero((self.reason == 0) & (self.dataset >= 0))

    def drop(self, step: str, reason: str, rows: Array, kept: Array | None = None) -> None:
        """Drop rows, each for the sake of one of `kept` (rows among all documents) where they are duplicates."""
        if not len(rows):
            return
        if (step, reason) not in self.reasons:
            self.reasons.append((step, reason))
        self.reason[rows] = self.reasons.index((step, reason))
        if kept is not None:
            self.kept[rows] = kept
        datasets = self.dataset[rows]
        for dataset in np.unique(datasets).tolist():
            held = self.dropped.setdefault((dataset, step, reason), [0, 0])
            held[0] += int((datasets == dataset).sum())
            held[1] += int(self.bytes[rows[datasets == dataset]].sum(dtype=np.int64))

    def span(self, place: int) -> slice:
        """The rows of a partition."""
        return slice(int(self.bounds[place]), int(self.bounds[place + 1]))

    def name(self, row: int) -> str:
        """A document's id."""
        (name,) = names(self.identity[[row]])
        return name

    def drawn(self, rows: Array, seed: int, most: int) -> Array:
        """At most so many of the rows, drawn by the documents and the seed alone: DRAWN, in the order of the draw."""
        made = np.empty(len(rows), DRAWN)
        keys = (self.identity[rows, 0] ^ np.uint64(seed)) * MIX ^ self.copy[rows]
        made["key"], made["copy"], made["row"] = (
            (keys ^ (keys >> np.uint64(33))) * MIX,
            self.copy[rows],
            rows + self.base,
        )
        return first_drawn(made, most)


DRAWN = np.dtype([("key", "<u8"), ("copy", "<u8"), ("row", "<i8")])
"""A draw of a document, uniform; the URL that tells it from documents of the same text; its row among all documents."""


def first_drawn(draws: Array, most: int) -> Array:
    """At most so many draws, the smallest first."""
    few = np.argpartition(draws["key"], most - 1)[:most] if len(draws) > most else np.arange(len(draws))
    chosen: Array = draws[few]
    ordered: Array = chosen[np.lexsort([chosen["row"], chosen["copy"], chosen["key"]])]
    return ordered


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
