"""Several data sets read as one, in given shares: which set a sample comes from is a closed formula of its number.

Megatron writes a table with a row for each sample of the run: next comes the set that is furthest behind its share.
Here the sets are the leaves of a binary tree. Of the first n samples of a node of weight p, its left child of weight a
has ⌊n·a/p + ½⌋ and the right one the rest: a Sturmian word (Morse & Hedlund 1940), as even as two sets can be mixed.
Any sample is found by walking down, in whole numbers of any size, so a share is kept for as long as a run may last.

A node that is off by e samples leaves a child of weight c off by at most e·c/p + ½, and the root is never off. The tree
is chosen for a small bound, `most_off`: under 1 for up to three sets, 1.05 to 1.2 for random weights of more, and 1.34
for the worst weights that a search has found. Over a window a set is off by at most twice that.
"""

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from math import lcm
from typing import Protocol, Self

import numpy as np

from megalith.errors import InputError
from megalith.tokens.loader import Batch

Weight = int | float | Fraction
_SPLITS_TRIED = 2  # on each side of the most even one


class Windows(Protocol):
    """A component of a blend, such as `TrainingWindows`."""

    @property
    def sequence_length(self) -> int:
        """T."""

    @property
    def per_epoch(self) -> int:
        """Samples in one epoch."""

    def batch(self, first_sample: int, count: int) -> Batch:
        """Samples first_sample … first_sample + count − 1."""


class Blend:
    """A mixture of data sets, each read in its own order."""

    def __init__(self, parts: Sequence[tuple[Windows, Weight]]) -> None:
        """Blend data sets by weight. Weights need not add up to 1; a float is taken for the decimal that it prints as.

        Raises InputError when there is none, a weight is not above 0, or sequence lengths differ.
        """
        _check(parts)
        self.datasets = [windows for windows, _ in parts]
        exact = [Fraction(str(weight)) for _, weight in parts]
        whole = lcm(*(weight.denominator for weight in exact))
        self.weights = [int(weight * whole) for weight in exact]
        """The weights as whole numbers."""
        self._tree = _Tree(self.weights)

    @classmethod
    def of_epochs(cls, parts: Sequence[tuple[Windows, Weight]]) -> Self:
        """Blend data sets by how often each is read while all are: Σ epochs × per_epoch samples read each so often."""
        return cls([(windows, Fraction(str(epochs)) * windows.per_epoch) for windows, epochs in parts])

    @property
    def most_off(self) -> float:
        """No set's count, in any number of first samples, is further from its share than this."""
        return self._tree.most_off

    def locate(self, sample: int) -> tuple[int, int]:
        """Which data set a sample comes from, and its number there."""
        return self._tree.locate(sample)

    def counts(self, samples: int) -> list[int]:
        """The number of samples from each data set among the first `samples`."""
        return self._tree.counts(samples)

    def batch(self, first_sample: int, count: int) -> Batch:
        """Samples first_sample … first_sample + count − 1. Any range gives what the ranges that it is made of give."""
        inputs = np.empty((count, self.datasets[0].sequence_length), dtype=np.int64)
        targets = np.empty_like(inputs)
        places = [self.locate(first_sample + row) for row in range(count)]
        owners = np.array([dataset for dataset, _ in places], dtype=np.int64)
        for dataset in np.unique(owners).tolist():
            rows = np.flatnonzero(owners == dataset)
            inputs[rows], targets[rows] = self.datasets[dataset].batch(places[rows[0]][1], len(rows))
        return inputs, targets


class _Tree:
    """Leaves of falling weight; each node is a range of them, cut in two."""

    def __init__(self, weights: Sequence[int]) -> None:
        self._order = sorted(range(len(weights)), key=lambda leaf: -weights[leaf])
        self._weights = [weights[leaf] for leaf in self._order]
        self._before = [0, *accumulate(self._weights)]
        self._cuts: dict[tuple[int, int], int] = {}
        self.most_off = 0.5 * max(self._choose_cut(0, len(weights), {}))

    def locate(self, sample: int) -> tuple[int, int]:
        """The leaf of a sample, and its number there."""
        first, after = 0, len(self._order)
        while after - first > 1:
            cut = self._cuts[first, after]
            left, both = (self._before[end] - self._before[first] for end in (cut, after))
            earlier = _on_the_left(sample, left, both)
            if _on_the_left(sample + 1, left, both) > earlier:
                sample, after = earlier, cut
            else:
                sample, first = sample - earlier, cut
        return self._order[first], sample

    def counts(self, samples: int) -> list[int]:
        """The number of samples of each leaf among the first `samples`."""
        found = [0] * len(self._order)
        nodes = [(0, len(self._order), samples)]
        while nodes:
            first, after, here = nodes.pop()
            if after - first == 1:
                found[self._order[first]] = here
                continue
            cut = self._cuts[first, after]
            left, both = (self._before[end] - self._before[first] for end in (cut, after))
            earlier = _on_the_left(here, left, both)
            nodes += [(first, cut, earlier), (cut, after, here - earlier)]
        return found

    def _choose_cut(self, first: int, after: int, known: dict[tuple[int, int], list[float]]) -> list[float]:
        """Cut a node and all below it. Returns twice the bound of each leaf: 1 + Σ leaf / node, over its nodes here."""
        if after - first == 1:
            return [1.0 if len(self._order) > 1 else 0.0]
        if (first, after) in known:
            return known[first, after]
        both = self._before[after] - self._before[first]
        even = bisect_left(self._before, self._before[first] + both // 2, first + 1, after - 1)
        cuts = range(max(first + 1, even - _SPLITS_TRIED), min(after, even + _SPLITS_TRIED + 1))
        own = [weight / both for weight in self._weights[first:after]]
        if after - first == len(self._order):  # the root is not off
            own = [0.0] * len(own)
        tried = []
        for cut in cuts:
            below = self._choose_cut(first, cut, known) + self._choose_cut(cut, after, known)
            tried.append(([bound + share for bound, share in zip(below, own, strict=True)], cut))
        bounds, self._cuts[first, after] = min(tried, key=lambda one: max(one[0]))
        known[first, after] = bounds
        return bounds


def _on_the_left(samples: int, left: int, both: int) -> int:
    """The left child's part (weight `left`) of the first samples of a node of weight `both`."""
    return (2 * samples * left + both) // (2 * both)


def _check(parts: Sequence[tuple[Windows, Weight]]) -> None:
    if not parts:
        raise InputError("there is no data set to blend.", where="blend")
    for number, (_, weight) in enumerate(parts):
        if not 0 < weight < float("inf"):
            raise InputError(
                f"the weight of data set {number} is {weight}.",
                where="blend",
                mend="Set it above 0, or remove it.",
            )
    lengths = {windows.sequence_length for windows, _ in parts}
    if len(lengths) > 1:
        raise InputError(
            f"data sets of sequence lengths {', '.join(map(str, sorted(lengths)))} cannot be blended.",
            where="blend",
            mend="Cut all into windows of one length.",
        )
