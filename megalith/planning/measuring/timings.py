"""How repeated timings become a figure and its error."""

import math
import statistics
from collections.abc import Sequence

MODEL_ERROR = 0.12  # by which a short trial may miss a long run, beside its own spread: a judgement, not a fit


def undisturbed(times: Sequence[float]) -> float:
    """The median of the faster half: what other programs have slowed is left out."""
    return statistics.median(sorted(times)[: (len(times) + 1) // 2])


def quartile_spread(times: Sequence[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    if len(times) < 4:
        return (max(times) - min(times)) / (max(times) + min(times))
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 2 / middle


def error_of(times: Sequence[float]) -> float:
    """The relative error that is claimed for a prediction from these timings."""
    return math.hypot(MODEL_ERROR, quartile_spread(times))
