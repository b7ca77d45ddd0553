"""Histograms whose edges are round numbers, the same for all that is compared."""

import math
from collections.abc import Sequence

import numpy as np

_MOST_BINS = 24
_WIDTHS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


def edges_of(values: Sequence[float]) -> list[float]:
    """Return the edges of at most 24 bins of a round width that hold all values, with 0 among the edges' multiples."""
    low, high = min(values), max(values)
    width = next((one for one in _WIDTHS if math.floor(high / one) - math.floor(low / one) < _MOST_BINS), None)
    if width is None:
        width = (high - low) / (_MOST_BINS - 1)
    first, last = math.floor(low / width), math.floor(high / width) + 1
    return [round(place * width, 6) for place in range(first, last + 1)]


def histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Return how many values lie in each bin, its lower edge included."""
    return [int(count) for count in np.histogram(values, bins=np.asarray(edges))[0]]
