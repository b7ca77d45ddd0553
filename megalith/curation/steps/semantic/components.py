"""The components of the graph of near pairs within a cluster, at several thresholds at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

from megalith.inference.embedder import one_thread

Array = npt.NDArray[Any]

BLOCK = 2048
"""Vectors of a side of what is multiplied at a time: 17 MB of cosines."""
EXAMPLES = 2
"""Pairs nearest to the chosen threshold, on each side of it."""


@dataclass(frozen=True)
class Linked:
    """The result of `link`."""

    roots: Array
    """int32 (thresholds, n): for each point the first point of its component."""
    pairs: list[tuple[float, int, int]]
    """Cosine, point and point: those nearest to the chosen threshold, first the ones at or above it."""


def link(count: int, vectors: Callable[[int, int], Array], thresholds: Array, chosen: float) -> Linked:
    """Join those of `count` points whose cosine is at least each of the ascending `thresholds`.

    `vectors` gives the points from one place to another, (some, E), of length 1. All pairs are looked at, a block at a
    time, and none is held: memory is 4 bytes a point and threshold.
    """
    roots = np.tile(np.arange(count, dtype=np.int32), (len(thresholds), 1))
    distances = np.full((2, EXAMPLES), np.inf, np.float32)  # to `chosen`: at or above, below
    ones, others = np.zeros((2, 2, EXAMPLES), np.int64)
    limits = np.asarray(thresholds, np.float32)
    with one_thread():
        for first in range(0, count, BLOCK):
            rows = torch.from_numpy(vectors(first, first + BLOCK).astype(np.float32))
            for second in range(first, count, BLOCK):
                columns = torch.from_numpy(vectors(second, second + BLOCK).astype(np.float32))
                cosines = (rows @ columns.T).numpy()
                _join(cosines, first, second, limits, np.float32(chosen), roots, distances, ones, others)
    for level in roots:
        _flatten(level)
    pairs = [
        (chosen + sign * float(distances[side, at]), int(ones[side, at]), int(others[side, at]))
        for side, sign in ((0, 1), (1, -1))
        for at in range(EXAMPLES)
        if np.isfinite(distances[side, at])
    ]
    return Linked(roots, pairs)


@numba.njit(cache=True, nogil=True)
def _join(
    cosines: Array,
    first: int,
    second: int,
    limits: Array,
    chosen: np.float32,
    roots: Array,
    distances: Array,
    ones: Array,
    others: Array,
) -> None:
    for row in range(cosines.shape[0]):
        one = first + row
        for column in range(row + 1 if first == second else 0, cosines.shape[1]):
            cosine = cosines[row, column]
            other = second + column
            side = 0 if cosine >= chosen else 1
            apart = abs(cosine - chosen)
            if apart < distances[side, -1]:
                at = len(distances[side]) - 1
                while at and apart < distances[side, at - 1]:
                    distances[side, at] = distances[side, at - 1]
                    ones[side, at], others[side, at] = ones[side, at - 1], others[side, at - 1]
                    at -= 1
                distances[side, at], ones[side, at], others[side, at] = apart, one, other
            if cosine < limits[0]:
                continue
            level = len(limits) - 1
            while cosine < limits[level]:
                level -= 1
            while level >= 0:  # what is joined at a threshold is joined at all lower ones
                a, b = _root(roots[level], one), _root(roots[level], other)
                if a == b:
                    break
                roots[level, max(a, b)] = min(a, b)
                level -= 1


@numba.njit(cache=True, nogil=True)
def _root(parents: Array, point: int) -> int:
    while parents[point] != point:
        parents[point] = parents[parents[point]]
        point = parents[point]
    return point


@numba.njit(cache=True, nogil=True)
def _flatten(parents: Array) -> None:
    for point in range(len(parents)):
        parents[point] = parents[parents[point]]  # of the smaller number, and flat already
