"""Two models on the same items: the difference, whether it could be chance, and what could have been seen at all."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from megalith.statistics.intervals import Groups, error_of_sum, t_quantile, unit_sums

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact one; from there on the mid-p one (Fagerland et al. 2013)."""


class Difference(NamedTuple):
    """A difference of two means over the same units."""

    difference: float
    error: float
    """Standard error, clustered."""
    interval: tuple[float, float]
    """95 %."""
    p: float
    """Two-sided, against a difference of 0."""
    freedom: float
    """Degrees of freedom: independent units − 1."""


def paired_difference(
    a: Sequence[float], b: Sequence[float], groups: Groups | None = None, *, proportion: bool = False
) -> Difference:
    """mean(b) − mean(a) over the same items, with a cluster-robust error and Student's t.

    With `proportion`, for scores in 0 … 1, error and interval are those of Agresti and Min (2005): with two more units
    (clusters), half a one for, half a one against and one undecided, so that few or no discordant items do not claim
    certainty. The difference itself is as observed.
    """
    steps = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if steps.size == 0:
        return Difference(math.nan, math.nan, (-math.inf, math.inf), 1.0, 0)
    difference = float(steps.mean())
    sums, sizes = unit_sums(steps, groups)
    if not proportion:
        error = error_of_sum(sums - difference * sizes) / steps.size
        return t_difference(difference, error, sums.size - 1)
    size = steps.size / sums.size  # items of an average unit
    total = steps.size + 2 * size
    centre = float(sums.sum()) / total
    squares = float(np.sum((sums - centre * sizes) ** 2)) + size**2 * (1 + 2 * centre**2)
    error = math.sqrt(squares) / total if sums.size > 1 else math.inf
    return t_difference(difference, error, sums.size - 1, centre=centre)


def t_difference(difference: float, error: float, freedom: float, *, centre: float | None = None) -> Difference:
    """The difference with Student's interval and p-value, both around `centre` (the difference itself by default)."""
    middle = difference if centre is None else centre
    if not math.isfinite(error):
        return Difference(difference, math.inf, (-math.inf, math.inf), 1.0, freedom)
    half = t_quantile(0.975, freedom) * error
    if error == 0:
        p = 1.0 if middle == 0 else 0.0
    else:
        p = min(1.0, 2 * t_tail(abs(middle) / error, freedom))
    return Difference(difference, error, (middle - half, middle + half), p, freedom)


def mcnemar(a_only: int, b_only: int) -> float:
    """The two-sided p-value that items which only one of two models gets right fall on both sides alike.

    The exact binomial test below 25 discordant items, and from there on its mid-p form, which is less conservative and
    errs in 5 % of cases at most in all that Fagerland, Lydersen and Laake (2013) tried.
    """
    from scipy import special

    discordant = a_only + b_only
    if discordant == 0:
        return 1.0
    fewer = min(a_only, b_only)
    tail = float(special.bdtr(fewer, discordant, 0.5))
    if discordant >= EXACT_BELOW:
        below = float(special.bdtr(fewer - 1, discordant, 0.5)) if fewer else 0.0
        tail = (tail + below) / 2  # the observed count itself by half
    return min(1.0, 2 * tail)


def smallest_visible_difference(
    error: float, power: float = 0.8, alpha: float = 0.05, freedom: float = math.inf
) -> float:
    """The true difference that a two-sided test at `alpha` would find with probability `power`, at this error."""
    return (t_quantile(1 - alpha / 2, freedom) + t_quantile(power, freedom)) * error


def equivalence_p(difference: float, error: float, margin: float, freedom: float = math.inf) -> float:
    """The p-value of two one-sided tests (TOST, Schuirmann 1987) that the difference is outside ± `margin`.

    Small: the two are the same to within the margin. 1 without an error to go by.
    """
    if not math.isfinite(error) or not math.isfinite(difference):
        return 1.0
    if error == 0:
        return 0.0 if abs(difference) < margin else 1.0
    return t_tail((margin - abs(difference)) / error, freedom)


def t_tail(value: float, freedom: float) -> float:
    """The probability that Student's t is above `value`; normal for infinite degrees of freedom."""
    from scipy import special

    if freedom < 1:
        return 1.0
    return float(special.ndtr(-value) if math.isinf(freedom) else special.stdtr(freedom, -value))
