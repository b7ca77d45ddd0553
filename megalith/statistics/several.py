"""Many tests at once, and the parts of a score's variance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted by Benjamini and Hochberg (1995).

    Calling all those at or below q real keeps the expected share of false ones among them at q. NaN (no test) stays
    NaN and is not counted among the tests.
    """
    given = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(given))
    adjusted = np.full(given.size, math.nan)
    order = tested[np.argsort(given[tested], kind="stable")]
    scaled = given[order] * order.size / np.arange(1, order.size + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class VariancePart:
    """The variance that one factor, or the interaction of several, gives to a single score."""

    axes: tuple[str, ...]
    variance: float
    """Not below 0: a negative estimate counts as 0."""
    share: float
    """Part of the variance of a single score."""
    of_mean: float
    """Part in the variance of the mean over the whole table, were all factors drawn anew."""


def variance_parts(
    table: Sequence[Any] | npt.NDArray[np.float64], axes: Sequence[str] = ("items", "shots", "seeds")
) -> list[VariancePart]:
    """The variance components of a full table of scores, each axis a random factor, by the method of moments.

    `table` is (items, shot draws) or (items, shot draws, training seeds), with `axes` as names; any number of axes.
    There is one score in each cell, so the highest interaction holds the residual too. An axis of length 1 says nothing
    of its factor and is left out. Solves the expected mean squares of the balanced random model
    (Searle, Casella and McCulloch 1992, chapter 4). Raises ValueError for a table with other axes or gaps.
    """
    scores = np.asarray(table, dtype=np.float64)
    if scores.ndim > len(axes) or not scores.size or np.isnan(scores).any():
        raise ValueError("the table must be full and have a name for each axis")
    names = [name for name, length in zip(axes, scores.shape, strict=False) if length > 1]
    scores = scores.squeeze()
    every = range(scores.ndim)
    variances: dict[tuple[int, ...], float] = {}
    for size in range(scores.ndim, 0, -1):
        for held in combinations(every, size):
            above = sum(
                value * _cells(scores, tuple(axis for axis in every if axis not in more))
                for more, value in variances.items()
                if set(held) < set(more)
            )
            others = tuple(axis for axis in every if axis not in held)
            variances[held] = (_mean_square(scores, held) - above) / _cells(scores, others)
    positive = {held: max(0.0, value) for held, value in variances.items()}
    whole = sum(positive.values())
    return [
        VariancePart(
            tuple(names[axis] for axis in held), value, value / whole if whole else 0.0, value / _cells(scores, held)
        )
        for held, value in sorted(positive.items(), key=lambda part: (len(part[0]), part[0]))
    ]


def _mean_square(scores: npt.NDArray[np.float64], held: tuple[int, ...]) -> float:
    """The mean square of one effect: its sum of squares over its degrees of freedom."""
    others = tuple(axis for axis in range(scores.ndim) if axis not in held)
    effect = scores.mean(axis=others, keepdims=True)
    for axis in held:  # what is left when the means over each of its own axes are taken out is the pure interaction
        effect = effect - effect.mean(axis=axis, keepdims=True)
    freedom = math.prod(scores.shape[axis] - 1 for axis in held)
    return float(np.sum(effect**2) * _cells(scores, others) / freedom)


def _cells(scores: npt.NDArray[np.float64], axes: tuple[int, ...]) -> int:
    return math.prod(scores.shape[axis] for axis in axes)
