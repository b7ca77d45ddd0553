"""The place of every kept document in the order in which copies are preferred, sorted by tasks, a range of it each.

Some documents of every chunk say where to cut the order into ranges; each chunk deals its documents out by these, each
reader sorts its range and says how many it has, and each chunk takes up the places of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import RECORD, Array, Columns
from megalith.curation.corpus.table import Table, preferred
from megalith.curation.engine import Task, spread
from megalith.curation.exchange import deal, dealt, unsynced
from megalith.curation.passes import Decisions, silent

SAMPLED = 256
"""Documents of a chunk that have a say in where the order is cut."""
RECORDS = 1 << 20
"""Documents sorted at a time, about."""
NUMBERED = np.dtype([*RECORD.descr, ("row", "<u8")])
PLACED = np.dtype([("row", "<u8"), ("place", "<u8")])


def rank(decisions: Decisions, folder: Path) -> None:
    """Write the rank of each document that nothing has dropped, for each chunk an array under a folder: `ranks_of`."""
    exchanged = decisions.work / "ranks"
    for name in ("sampled", "dealt", "placed"):
        (exchanged / name).mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    readers = 1 + len(decisions.table) // RECORDS
    decisions.look(SampleOrder(str(exchanged / "sampled")))
    parts = [np.load(path) for path in sorted((exchanged / "sampled").glob("*.npy"))]
    sampled = np.concatenate([np.zeros(0, NUMBERED), *parts])
    sampled = sampled[_order(sampled)]
    np.save(exchanged / "cuts.npy", sampled[np.arange(1, readers) * len(sampled) // readers])
    decisions.look(DealByOrder(str(exchanged), readers))
    counts = [0] * readers
    tasks: list[Task] = [{"number": number} for number in range(readers)]
    work = PlaceShare(decisions.table, str(exchanged), readers)
    for task, answer in spread(work, tasks, decisions.weight, silent):
        counts[task["number"]] = answer["documents"]
    before = tuple(np.cumsum([0, *counts])[:-1].tolist())
    decisions.look(TakePlaces(decisions.table, str(exchanged / "placed"), str(folder), before))


def ranks_of(folder: Path, chunk: int) -> Array:
    """The ranks of a chunk, uint64 (documents,), of which only those that are looked at are read."""
    found: Array = np.load(folder / f"{chunk:05d}.npy", mmap_mode="r")
    return found


@dataclass(frozen=True)
class SampleOrder:
    """Writes some documents of a chunk."""

    to: str

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        records = _kept(columns)
        with unsynced(Path(self.to) / f"{columns.number:05d}.npy") as path, path.open("wb") as file:
            np.save(file, records[:: 1 + len(records) // SAMPLED])
        return {}


@dataclass(frozen=True)
class DealByOrder:
    """Deals the documents of a chunk to those who sort them."""

    exchanged: str
    readers: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        exchanged, records = Path(self.exchanged), _kept(columns)
        cuts = np.load(exchanged / "cuts.npy")
        order = _order(np.concatenate([cuts, records]))
        to = np.empty(len(order), np.int64)
        to[order] = np.cumsum(order < len(cuts))
        deal(exchanged / "dealt" / f"{columns.number:05d}", records, to[len(cuts) :], self.readers)
        return {}


@dataclass(frozen=True)
class PlaceShare:
    """Sorts a range of the order, and deals the places in it back to the chunks."""

    table: Table
    exchanged: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        exchanged, number = Path(self.exchanged), task["number"]
        parts = [part for _, part in dealt(exchanged / "dealt", number, self.readers, NUMBERED)]
        records = np.concatenate([np.zeros(0, NUMBERED), *parts])
        made = np.empty(len(records), PLACED)
        made["row"], made["place"] = records["row"][_order(records)], np.arange(len(records))
        to = self.table.chunk_of(made["row"])
        deal(exchanged / "placed" / f"{number:05d}", made, to, len(self.table.chunks))
        return {"documents": len(made)}


@dataclass(frozen=True)
class TakePlaces:
    """Writes the ranks of a chunk, from places in ranges and how many documents there are `before` each range."""

    table: Table
    placed: str
    to: str
    before: tuple[int, ...]

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        ranks = np.zeros(len(columns), np.uint64)
        for share, part in dealt(Path(self.placed), columns.number, len(self.table.chunks), PLACED):
            ranks[part["row"].astype(np.int64) - columns.base] = part["place"] + np.uint64(self.before[share])
        with unsynced(Path(self.to) / f"{columns.number:05d}.npy") as path, path.open("wb") as file:
            np.save(file, ranks)
        return {}


def _kept(columns: Columns) -> Array:
    rows = columns.alive
    made = np.empty(len(rows), NUMBERED)
    for name in RECORD.names or ():
        made[name] = columns.records[name][rows]
    made["row"] = rows + columns.base
    return made


def _order(records: Array) -> Array:
    return np.lexsort((records["row"], *preferred(records)))
