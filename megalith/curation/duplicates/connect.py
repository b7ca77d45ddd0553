"""Connected components of a graph that no memory holds: edges in files, contracted until each component is a star.

Where the edges are few, one task joins them. Else small-star and large-star steps take turns (Kiveris et al. 2014,
"Connected components in MapReduce and beyond"): at each vertex the neighbours that are smaller, then those that are
larger, are hung onto the smallest of all. A step's tasks hold the different vertices of their share, and of the edges a
window at a time, so that a vertex may have as many neighbours as there are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from megalith.curation.corpus.document_table import Array
from megalith.curation.engine import Task, Told, spread
from megalith.curation.exchange import SUFFIX, deal, dealt, in_windows, reader_of, spread_out
from megalith.ngrams.sorted_sets import different

EDGE = np.dtype([("low", "<u8"), ("high", "<u8")])
"""Two vertices, the smaller first; where edges are asked for by vertex, `low` is the one that is asked for."""
MOST_EDGES = 1 << 21
"""Joined by one task: 100 MB."""


def joined(edges: Array) -> Array:
    """The stars of the components of these edges: an edge from the smallest vertex of each to every other of it."""
    vertices = different(np.concatenate([edges["low"], edges["high"]]))
    parents = np.arange(len(vertices))
    _join(np.searchsorted(vertices, edges["low"]), np.searchsorted(vertices, edges["high"]), parents)
    others = np.flatnonzero(parents != np.arange(len(vertices)))
    made = np.empty(len(others), EDGE)
    made["low"], made["high"] = vertices[parents[others]], vertices[others]
    return made


def deal_edges(path: Path, edges: Array, readers: int) -> None:
    """Write edges for the first step: by the larger vertex."""
    deal(path, edges, reader_of(spread_out(edges["high"]), readers), readers)


def connect(work: Path, readers: int, edges: int, weight: int, told: Told, stars_to: Callable[[int], int]) -> int:
    """From the edges in `work`/edges (so many, dealt to so many readers) to `work`/stars, dealt by component.

    `stars_to` says, given the number of edges of all stars at most, to how many readers they are to be dealt: that is
    returned. A star's edges go to one of them.
    """
    folder, number = work / "edges", 0
    if edges > MOST_EDGES:
        changed = 1
        while changed:
            changed = 0
            for large in (False, True):
                number += 1
                to = work / f"edges-{number}"
                to.mkdir(exist_ok=True)
                edges = 0
                step = HangOnto(str(folder), str(to), readers, large)
                for _, answer in spread(step, [{"number": n} for n in range(readers)], weight, told):
                    changed += answer["changed"]
                    edges += answer["edges"]
                _remove(folder)
                folder = to
    many = stars_to(edges)
    (work / "stars").mkdir(exist_ok=True)
    whole = number == 0
    tasks: list[Task] = [{"number": n} for n in range(1 if whole else readers)]
    for _ in spread(DealStars(str(folder), str(work / "stars"), readers, whole, many), tasks, weight, told):
        pass
    _remove(folder)
    return many


def stars(work: Path, reader: int, readers: int) -> Array:
    """The stars that were dealt to a reader."""
    return np.concatenate([np.zeros(0, EDGE), *(part for _, part in dealt(work / "stars", reader, readers, EDGE))])


@dataclass(frozen=True)
class HangOnto:
    """One small-star or large-star step over the vertices of a share."""

    edges: str
    to: str
    readers: int
    large: bool

    def __call__(self, task: Task) -> Mapping[str, Any]:
        number, path = task["number"], Path(self.to)
        mine = "low" if self.large else "high"
        least = _least(self._windows(number), mine, "high" if self.large else "low")
        if self.large:
            least["least"] = np.minimum(least["vertex"], least["least"])
        changed = written = 0
        for part, edges in enumerate(self._windows(number)):
            low = least["least"][np.searchsorted(least["vertex"], edges[mine])]
            if self.large:
                chosen = edges["high"] > edges["low"]
                changed += int((low[chosen] != edges["low"][chosen]).sum())
                made = _edges(low[chosen], edges["high"][chosen])
            else:
                chosen = low != edges["low"]
                changed += int(chosen.sum())
                made = _edges(low[chosen], edges["low"][chosen])
            written += self._write(path / f"{number:05d}-{part:05d}", made)
        if not self.large:
            for part, start in enumerate(range(0, len(least), MOST_EDGES)):
                some = least[start : start + MOST_EDGES]
                written += self._write(path / f"{number:05d}-own-{part:05d}", _edges(some["least"], some["vertex"]))
        return {"changed": changed, "edges": written}

    def _windows(self, number: int) -> Iterator[Array]:
        return in_windows((part for _, part in dealt(Path(self.edges), number, self.readers, EDGE)), EDGE)

    def _write(self, path: Path, made: Array) -> int:
        """Write different edges for the next step: by the larger vertex, or after a small one by both."""
        made = _different(made)
        if self.large:
            deal_edges(path, made, self.readers)
        else:
            both = np.concatenate([made, _edges(made["high"], made["low"])])
            deal(path, both, reader_of(spread_out(both["low"]), self.readers), self.readers)
        return len(made)


@dataclass(frozen=True)
class DealStars:
    """Deals stars by their centres; where the edges were few, makes them of these first."""

    edges: str
    to: str
    readers: int
    whole: bool
    many: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        shares = range(self.readers) if self.whole else (task["number"],)
        parts: Iterator[Array] = (
            part for share in shares for _, part in dealt(Path(self.edges), share, self.readers, EDGE)
        )
        if self.whole:
            parts = iter([joined(np.concatenate([np.zeros(0, EDGE), *parts]))])
        for part, edges in enumerate(in_windows(parts, EDGE)):
            path = Path(self.to) / f"{task['number']:05d}-{part:05d}"
            deal(path, edges, reader_of(spread_out(edges["low"]), self.many), self.many)
        return {}


def _least(windows: Iterator[Array], vertex: str, neighbour: str) -> Array:
    """The different vertices of some edges, ascending, and the least neighbour of each."""
    kind = np.dtype([("vertex", "<u8"), ("least", "<u8")])
    held = np.zeros(0, kind)
    for edges in windows:
        more = np.empty(len(edges), kind)
        more["vertex"], more["least"] = edges[vertex], edges[neighbour]
        held = np.concatenate([held, more])
        held = held[np.lexsort((held["least"], held["vertex"]))]
        first = np.ones(len(held), bool)
        first[1:] = held["vertex"][1:] != held["vertex"][:-1]
        held = held[first]
    return held


def _different(edges: Array) -> Array:
    ordered = edges[np.lexsort((edges["high"], edges["low"]))]
    first = np.ones(len(ordered), bool)
    first[1:] = (ordered["low"][1:] != ordered["low"][:-1]) | (ordered["high"][1:] != ordered["high"][:-1])
    chosen: Array = ordered[first]
    return chosen


def _edges(low: Array, high: Array) -> Array:
    made = np.empty(len(low), EDGE)
    made["low"], made["high"] = low, high
    return made


def _remove(folder: Path) -> None:
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink()


@numba.njit(cache=True, nogil=True)
def _join(low: Array, high: Array, parents: Array) -> None:
    """Join the two ends of each edge; afterwards each vertex has the least of its component as its parent."""
    for edge in range(len(low)):
        one, other = low[edge], high[edge]
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        while parents[other] != other:
            parents[other] = parents[parents[other]]
            other = parents[other]
        if one < other:
            parents[other] = one
        else:
            parents[one] = other
    for vertex in range(len(parents)):  # the parent of a vertex is smaller, and settled before it
        parents[vertex] = parents[parents[vertex]]
