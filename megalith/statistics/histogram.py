"""Histograms whose edges are round numbers, the same for all that is compared."""

import math
from collections.abc import Sequence

import numpy as np

_STEPS = (1, 2, 2.5, 5, 10, 20)


def round_edges(values: Sequence[float], most: int = 24) -> list[float]:
    """The edges of at most `most` bins of a round width that hold all values; 0 is an edge where it lies among them."""
    low, high = min(values), max(values)
    width = 10.0 ** math.floor(math.log10(max((high - low) / most, 1e-6)))
    width = next(width * step for step in _STEPS if (high - low) / (width * step) < most - 1)
    first, last = math.floor(low / width), math.floor(high / width) + 1
    return [round(place * width, 9) for place in range(first, last + 1)]


def counts_between(edges: Sequence[float], values: Sequence[float]) -> list[int]:
    """How many of the values lie in each bin, the lower edge included."""
    return [int(count) for count in np.histogram(values, bins=np.asarray(edges))[0]]
