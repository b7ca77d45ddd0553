"""Passes over all documents, a chunk a task: what each looks at, decides, and drops, and the funnel of it.

The process that drives holds sums, and a few documents by name; the columns of a chunk are read and written by whoever
has its task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import DRAWN, Array, Columns, first_drawn
from megalith.curation.corpus.table import Table
from megalith.curation.engine import Task, Told, spread
from megalith.curation.exchange import unsynced
from megalith.curation.funnel import Funnel

ChunkWork = Callable[[Columns], Mapping[str, Any]]
BYTES_A_DOCUMENT = 4
"""Deciding about so many documents is worth another process as reading so many bytes of text is (`spread`)."""


def silent(done: int, total: int) -> None:
    """Hear of progress and say nothing."""


def ignore(answer: Mapping[str, Any]) -> None:
    """Take an answer that says nothing."""


class Decisions:
    """The documents, what has been decided about them, and a folder for what tasks exchange."""

    def __init__(self, table: Table, work: Path, seed: int) -> None:
        self.table = table
        self.work = work
        self.seed = seed
        self.funnel = Funnel()
        work.mkdir(parents=True, exist_ok=True)

    @property
    def weight(self) -> int:
        """The bytes of text that a pass is worth (`spread`)."""
        return BYTES_A_DOCUMENT * len(self.table)

    def change(
        self,
        work: ChunkWork,
        take: Callable[[Mapping[str, Any]], None] = ignore,
        *,
        told: Told = silent,
        first: bool = False,
        weight: int | None = None,
    ) -> None:
        """Have `work` change the columns of every chunk (new ones, if it is the `first` to) and drop documents."""
        following = self.table.next
        self._over(OverChunk(self.table, following, first, work), take, told, weight)
        self.table.remove()
        self.table = following

    def look(
        self,
        work: ChunkWork,
        take: Callable[[Mapping[str, Any]], None] = ignore,
        *,
        told: Told = silent,
        weight: int | None = None,
    ) -> None:
        """Have `work` look at every chunk; `take` gets what it says, in the order of chunks."""
        self._over(OverChunk(self.table, None, False, work), take, told, weight)

    def drawn(self, chosen: Callable[[Columns], Array], most: int) -> Array:
        """At most `most` of the rows that `chosen` says of each chunk, drawn, in the order of the draw."""
        folder = self.work / "drawn"
        folder.mkdir(exist_ok=True)
        self.look(Draw(str(folder), chosen, self.seed, most))
        held = np.zeros(0, DRAWN)
        for path in sorted(folder.glob("*.npy")):
            held = first_drawn(np.concatenate([held, np.load(path)]), most)
            path.unlink()
        rows: Array = held["row"]
        return rows

    def _over(
        self, work: "OverChunk", take: Callable[[Mapping[str, Any]], None], told: Told, weight: int | None
    ) -> None:
        tasks: list[Task] = [{"number": chunk.number} for chunk in self.table.chunks]
        early: dict[int, Mapping[str, Any]] = {}
        following = 0
        for task, answer in spread(work, tasks, self.weight if weight is None else weight, told):
            early[task["number"]] = answer
            while following in early:
                ready = early.pop(following)
                self.funnel.drop(ready["dropped"])
                take(ready["told"])
                following += 1


@dataclass(frozen=True)
class OverChunk:
    """One pass over a chunk."""

    table: Table
    to: Table | None
    new: bool
    work: ChunkWork

    def __call__(self, task: Task) -> Mapping[str, Any]:
        columns = (self.table.new if self.new else self.table.open)(task["number"])
        told = self.work(columns)
        if self.to is not None:
            self.to.save(columns)
        dropped = [[*which, *counts] for which, counts in columns.dropped.items()]
        return {"told": told, "dropped": dropped}


@dataclass(frozen=True)
class Draw:
    """Draws some of the rows that are chosen."""

    folder: str
    chosen: Callable[[Columns], Array]
    seed: int
    most: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        with unsynced(Path(self.folder) / f"{columns.number:05d}.npy") as path, path.open("wb") as file:
            np.save(file, columns.drawn(self.chosen(columns), self.seed, self.most))
        return {}
