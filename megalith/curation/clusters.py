"""The largest groups of duplicates: how many they were, and some of them by id.

A document that was lost names the copy that stands for it, which may have been lost itself later, as a near-duplicate
or for its meaning; so counts and samples go from each to its copy, by files, and on to that one's copy until all stand.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import DRAWN, Array, Columns, names
from megalith.curation.corpus.table import Table
from megalith.curation.engine import Task, spread
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
    readers = 1 + len(table) // LOST
    tasks: list[Task] = [{"number": number} for number in range(readers)]
    place, moved = _made(work / "0"), 1
    decisions.look(DealLost(str(place), decisions.seed, readers))
    while moved:
        following = _made(work / str(1 + int(place.name)))
        follow = FollowCopies(str(place), str(following), readers)
        moved = sum(found["moved"] for _, found in spread(follow, tasks, decisions.weight, silent))
        shutil.rmtree(place)
        place = following
    held: list[Any] = []
    for _, found in spread(CountGroups(table, str(place), readers), tasks, decisions.weight, silent):
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
    """Deals lost documents on to the copy of their copy, where that was lost, too, and says how many."""

    place: str
    to: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        place, number, moved = Path(self.place), task["number"], 0
        above = np.zeros(0, MEMBER)
        for some in _windows(place, number, self.readers):
            above = np.concatenate([above, some[some["above"] >= 0]])
        above = above[np.argsort(above["root"])]
        for part, some in enumerate(_windows(place, number, self.readers)):
            dealt_on = some.copy()
            if len(above):
                at = np.minimum(np.searchsorted(above["root"], some["root"]), len(above) - 1)
                further = (some["above"] < 0) & (above["root"][at] == some["root"])
                dealt_on["root"] = np.where(further, above["above"][at], some["root"])
                moved += int(further.sum())
            _deal(Path(self.to) / f"{number:05d}-{part:05d}", dealt_on, self.readers)
        return {"moved": moved}


@dataclass(frozen=True)
class CountGroups:
    """Says the largest groups of a share: minus the count, id and row of the kept one, and the rows of some members."""

    table: Table
    place: str
    readers: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        folder, number = Path(self.place), task["number"]
        roots, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for some in _members(folder, number, self.readers):
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
        for some in _members(folder, number, self.readers):
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


def _members(folder: Path, number: int, readers: int) -> Iterator[Array]:
    for some in _windows(folder, number, readers):
        yield some[some["above"] < 0]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _deal(path: Path, members: Array, readers: int) -> None:
    deal(path, members, reader_of(spread_out(members["root"]), readers), readers)


def _reasons(table: Table, rows: Array) -> dict[int, str]:
    """Why each of these ascending rows was dropped."""
    codes = table.take(rows)["reason"].tolist()
    return {
        row: table.reasons(number)[code][1]
        for row, number, code in zip(rows.tolist(), table.chunk_of(rows).tolist(), codes, strict=True)
    }
