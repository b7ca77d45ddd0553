"""The largest groups of duplicates: how many they were, and some of them by id.

A document that was lost names the copy that stands for it, which may have been lost itself later, as a near-duplicate;
so counts and samples go from each to its copy, by files, and from there to that one's copy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import DRAWN, Array, Columns, names
from megalith.curation.corpus.table import Table
from megalith.curation.daft_engine import Task, spread
from megalith.curation.exchange import deal, dealt, in_windows, reader_of, spread_out
from megalith.curation.passes import Decisions, silent
from megalith.ngrams.sorted_sets import different

CLUSTERS, CLUSTER_MEMBERS = 20, 50
LOST = 1 << 20
"""For a reader, about."""
MEMBER = np.dtype([("root", "<i8"), ("above", "<i8"), *DRAWN.descr])
"""A document that was lost, the copy it was lost for, and the one that that was lost for itself (-1 if it was not)."""


def clusters(decisions: Decisions) -> list[dict[str, Any]]:
    """The groups, the largest first, of equals that with the smaller id."""
    table, work = decisions.table, decisions.work / "clusters"
    for name in ("first", "members"):
        (work / name).mkdir(parents=True, exist_ok=True)
    readers = 1 + len(table) // LOST
    decisions.look(DealLost(str(work / "first"), decisions.seed, readers))
    tasks: list[Task] = [{"number": number} for number in range(readers)]
    for _ in spread(FollowCopies(str(work), readers), tasks, decisions.weight, silent):
        pass
    held: list[Any] = []
    for _, found in spread(CountGroups(table, str(work), readers), tasks, decisions.weight, silent):
        held = sorted([*held, *found["groups"]], key=lambda one: one[:2])[:CLUSTERS]
    rows = [row for _, _, root, members in held for row in (root, *members)]
    shown = table.shown(rows, ["url"])
    wanted = different(np.array(rows, np.int64))
    of_row = dict(zip(wanted.tolist(), names(table.take(wanted)["identity"]), strict=True))
    reasons = _reasons(table, wanted)
    return [
        {
            "documents": 1 - count,
            "kept": {"id": name, "url": shown[root]["url"]},
            "dropped": [{"id": of_row[row], "url": shown[row]["url"], "reason": reasons[row]} for row in members],
        }
        for count, name, root, members in held
    ]


@dataclass(frozen=True)
class DealLost:
    """Deals out the lost documents of a chunk by their copies, and as what they may be themselves, a copy."""

    to: str
    seed: int
    readers: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        rows = np.flatnonzero((columns.kept >= 0) & (columns.dataset >= 0))
        drawn = columns.drawn(rows, self.seed, len(columns))
        made = np.empty(len(drawn), MEMBER)
        for name in DRAWN.names or ():
            made[name] = drawn[name]
        made["root"], made["above"] = columns.kept[drawn["row"] - columns.base], -1
        itself = made.copy()
        itself["root"], itself["above"] = made["row"], made["root"]
        _deal(Path(self.to) / f"{columns.number:05d}", np.concatenate([itself, made]), self.readers)
        return {}


@dataclass(frozen=True)
class FollowCopies:
    """Deals lost documents on to the copy of their copy, where that was lost, too."""

    work: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work, number = Path(self.work), task["number"]
        above = np.zeros(0, MEMBER)
        for some in _windows(work / "first", number, self.readers):
            above = np.concatenate([above, some[some["above"] >= 0]])
        above = above[np.argsort(above["root"])]
        for part, some in enumerate(_windows(work / "first", number, self.readers)):
            members = some[some["above"] < 0].copy()
            if len(above):
                at = np.minimum(np.searchsorted(above["root"], members["root"]), len(above) - 1)
                further = above["root"][at] == members["root"]
                members["root"] = np.where(further, above["above"][at], members["root"])
            _deal(work / "members" / f"{number:05d}-{part:05d}", members, self.readers)
        return {}


@dataclass(frozen=True)
class CountGroups:
    """Says the largest groups of a share: minus the count, id and row of the kept one, and the rows of some members."""

    table: Table
    work: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        folder, number = Path(self.work) / "members", task["number"]
        roots, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for some in _windows(folder, number, self.readers):
            found, times = np.unique(some["root"], return_counts=True)
            roots, place = np.unique(np.concatenate([roots, found]), return_inverse=True)
            counts = np.bincount(place, np.concatenate([counts, times])).astype(np.int64)
        if not len(roots):
            return {"groups": []}
        least = np.partition(counts, -CLUSTERS)[-CLUSTERS] if len(counts) > CLUSTERS else 0
        chosen = np.flatnonzero(counts >= least)
        high, low = self.table.take(roots[chosen])["identity"].T
        chosen = chosen[np.lexsort((low, high, -counts[chosen]))[:CLUSTERS]]
        members: dict[int, Array] = {root: np.zeros(0, MEMBER) for root in roots[chosen].tolist()}
        for some in _windows(folder, number, self.readers):
            for root, held in members.items():
                more = np.concatenate([held, some[some["root"] == root]])
                members[root] = more[np.lexsort((more["row"], more["copy"], more["key"]))[:CLUSTER_MEMBERS]]
        named = np.sort(roots[chosen])
        name_of = dict(zip(named.tolist(), names(self.table.take(named)["identity"]), strict=True))
        groups = [
            [-count, name_of[root], root, members[root]["row"].tolist()]
            for root, count in zip(roots[chosen].tolist(), counts[chosen].tolist(), strict=True)
        ]
        return {"groups": groups}


def _windows(folder: Path, number: int, readers: int) -> Iterator[Array]:
    return in_windows((part for _, part in dealt(folder, number, readers, MEMBER)), MEMBER)


def _deal(path: Path, members: Array, readers: int) -> None:
    deal(path, members, reader_of(spread_out(members["root"]), readers), readers)


def _reasons(table: Table, rows: Array) -> dict[int, str]:
    """Why each of these ascending rows was dropped."""
    codes = table.take(rows)["reason"].tolist()
    return {
        row: table.reasons(number)[code][1]
        for row, number, code in zip(rows.tolist(), table.chunk_of(rows).tolist(), codes, strict=True)
    }
