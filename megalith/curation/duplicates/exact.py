"""Exact duplicates: documents of one fingerprint.

Each chunk settles its own copies first and deals out what is left by fingerprint, so that of a text that stands a
million times a reader sees as many as there are chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import RECORD, Array
from megalith.curation.corpus.table import Table, standing
from megalith.curation.duplicates.answers import ANSWER, answer, answers_of, copies
from megalith.curation.engine import Task, Told, spread
from megalith.curation.exchange import deal, dealt, reader_of

RECORDS = 1 << 20
"""For a reader, about."""
BYTES_A_DOCUMENT = 4
"""Deciding about so many documents is worth another process as reading so many bytes of text is (`spread`)."""
NUMBERED = np.dtype([*RECORD.descr, ("row", "<u8")])


def find_exact(table: Table, work: Path, told: Told) -> Path:
    """Find the exact duplicates among the documents that stand. Returns the folder of the answers."""
    dealt_out, between, found = work / "dealt", work / "between", work / "found"
    for folder in (dealt_out, between, found):
        folder.mkdir(parents=True, exist_ok=True)
    size = len(table)
    readers = 1 + size // RECORDS
    weight = BYTES_A_DOCUMENT * size
    chunks: list[Task] = [{"number": chunk.number} for chunk in table.chunks]
    steps = (
        (DealMarks(table, str(dealt_out), readers), chunks),
        (FindCopies(table, str(dealt_out), str(between), readers), [{"number": n} for n in range(readers)]),
        (SettleCopies(table, str(between), str(found)), chunks),
    )
    for step, tasks in steps:
        for _ in spread(step, tasks, weight, told):
            pass
    return found


@dataclass(frozen=True)
class DealMarks:
    """Deals out the documents of a chunk that stand, one of each fingerprint."""

    table: Table
    to: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        table = self.table
        records, _, lost, _ = _settled(table, task["number"])
        firsts = np.delete(records, lost)
        deal(
            Path(self.to) / f"{task['number']:05d}",
            firsts,
            reader_of(firsts["fingerprint"][:, 0], self.readers),
            self.readers,
        )
        return {}


@dataclass(frozen=True)
class FindCopies:
    """Settles the copies of a range of fingerprints."""

    table: Table
    dealt: str
    to: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        number = task["number"]
        parts = [part for _, part in dealt(Path(self.dealt), number, self.readers, NUMBERED)]
        records = np.concatenate([np.zeros(0, NUMBERED), *parts])
        lost, kept = copies(records, _marks(records))
        earlier = records["dataset"][kept] < 0
        answer(Path(self.to), number, self.table, records["row"][lost], records["row"][kept], earlier)
        return {}


@dataclass(frozen=True)
class SettleCopies:
    """Joins what a chunk knows of its own copies with what was found about those that it dealt out."""

    table: Table
    between: str
    to: str

    def __call__(self, task: Task) -> Mapping[str, Any]:
        table, number = self.table, task["number"]
        records, rows, lost, kept = _settled(table, number)
        found = answers_of(Path(self.between), table, number)
        made = np.empty(len(lost), ANSWER)
        made["row"], made["kept"] = rows[lost], rows[kept]
        made["earlier"] = records["dataset"][kept] < 0
        if len(found):
            at = np.minimum(np.searchsorted(found["row"], made["kept"]), len(found) - 1)
            further = found["row"][at] == made["kept"]
            made["kept"] = np.where(further, found["kept"][at], made["kept"])
            made["earlier"] = np.where(further, found["earlier"][at], made["earlier"])
        made = np.concatenate([made, found])
        answer(Path(self.to), number, table, made["row"], made["kept"], made["earlier"])
        return {}


def _settled(table: Table, number: int) -> tuple[Array, Array, Array, Array]:
    """The records of a chunk that stand, their rows, and which of them are copies of which."""
    held = table.records(number)
    chosen = standing(held)
    records = np.empty(len(chosen), NUMBERED)
    for name in RECORD.names or ():
        records[name] = held[name][chosen]
    rows = (chosen + table.chunk(number).base).astype(np.uint64)
    records["row"] = rows
    return records, rows, *copies(records, _marks(records))


def _marks(records: Array) -> tuple[Array, Array]:
    return records["fingerprint"][:, 0], records["fingerprint"][:, 1]
