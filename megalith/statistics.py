"""Standard errors and intervals that more than one room prints."""

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error s/√n (sample standard deviation, n − 1). One value has an infinite error."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return math.nan, math.nan
    if array.size == 1:
        return float(array[0]), math.inf
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(array.size))


def wilson_interval(successes: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (1927): honest at 0, at 1 and for few trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_and_standard_error(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """Σ numerators / Σ denominators and its standard error by the delta method.

    The pairs are the independent units (documents): nats and tokens of each, say. This is the cluster-robust error of a
    per-token mean; the error of exp(ratio) is exp(ratio) times this one.
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    if top.size == 0 or bottom.sum() == 0:
        return math.nan, math.nan
    ratio = float(top.sum() / bottom.sum())
    if top.size == 1:
        return ratio, math.inf
    residuals = top - ratio * bottom
    n = top.size
    return ratio, float(math.sqrt(n / (n - 1) * np.sum(residuals**2)) / bottom.sum())
