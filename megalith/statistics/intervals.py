"""A mean, a proportion or a ratio of one sample, with its standard error and 95 % interval.

Items of one cluster (a passage, a template) resemble each other; the functions that take `groups` count clusters as the
independent units (CR1: Liang and Zeger 1986, with G/(G − 1)) and use Student's t with G − 1 degrees of freedom.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution

Groups = Sequence[Hashable]


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error s/√n (sample standard deviation, n − 1). One value has an infinite error."""
    return clustered_mean_and_standard_error(values)


def clustered_mean_and_standard_error(values: Sequence[float], groups: Groups | None = None) -> tuple[float, float]:
    """The mean of all values and its cluster-robust standard error; without `groups`, each value is its own cluster.

    √(G/(G − 1) Σ_g (Σ_{i in g} (x_i − mean))²)/n. One cluster has an infinite error.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return math.nan, math.nan
    mean = float(array.mean())
    return mean, error_of_sum(unit_sums(array - mean, groups)[0]) / array.size


def ratio_and_standard_error(
    numerators: Sequence[float], denominators: Sequence[float], groups: Groups | None = None
) -> tuple[float, float]:
    """Σ numerators / Σ denominators and its standard error by the delta method.

    The pairs, or their clusters, are the independent units (documents): nats and tokens of each, say. This is the
    cluster-robust error of a per-token mean; the error of exp(ratio) is exp(ratio) times this one.
    """
    if len(numerators) == 0 or np.sum(denominators) == 0:
        return math.nan, math.nan
    return clustered_mean_and_standard_error(linear_scores(numerators, denominators).tolist(), groups)


def linear_scores(numerators: Sequence[float], denominators: Sequence[float]) -> npt.NDArray[np.float64]:
    """A score for each pair, with mean Σ numerators / Σ denominators and the spread of that ratio (delta method).

    ratio + (numerator − ratio · denominator) / mean denominator: what holds for means then holds for the ratio, such as
    a paired difference.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    ratio = top.sum() / bottom.sum()
    scores: npt.NDArray[np.float64] = ratio + (top - ratio * bottom) / bottom.mean()
    return scores


def wilson_interval(successes: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (1927): honest at 0, at 1 and for few trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_interval(
    values: Sequence[float], groups: Groups | None = None, *, proportion: bool = False
) -> tuple[float, float]:
    """The 95 % interval of the mean: mean ± t · error, with t of (clusters − 1) degrees of freedom.

    `proportion` is for values in 0 … 1: Wilson's interval at the effective sample size (Korn and Graubard 1998), which
    stays within 0 … 1. It is Wilson's own without `groups`, or where every item is its own cluster.
    """
    if proportion:
        clusters = len(set(groups)) if groups is not None else len(values)
        if clusters == len(values):
            return wilson_interval(float(np.sum(values)), len(values))
        size = effective_sample_size(values, groups)
        return wilson_interval(float(np.mean(values)) * size, size, z=t_quantile(0.975, clusters - 1))
    mean, error = clustered_mean_and_standard_error(values, groups)
    clusters = len(set(groups)) if groups is not None else len(values)
    if not math.isfinite(error):
        return (-math.inf, math.inf)
    half = t_quantile(0.975, clusters - 1) * error
    return mean - half, mean + half


def effective_sample_size(values: Sequence[float], groups: Groups | None = None) -> float:
    """The number of independent 0/1 trials whose mean is as uncertain as that of these values in clusters.

    p (1 − p) / error², between 1 and the number of values. Where all values are equal, the error says nothing and each
    cluster counts as one trial.
    """
    mean, error = clustered_mean_and_standard_error(values, groups)
    clusters = len(set(groups)) if groups is not None else len(values)
    if mean in (0.0, 1.0) or error == 0:
        return float(clusters)
    return min(max(mean * (1 - mean) / error**2, 1.0), float(len(values)))


def bootstrap_interval(
    values: Sequence[Any] | npt.NDArray[Any],
    statistic: Callable[[npt.NDArray[Any]], float],
    draws: int = 2000,
    seed: int = 0,
    groups: Groups | None = None,
) -> tuple[float, float]:
    """The 95 % percentile interval of statistic(values): rows, or whole clusters, are drawn with replacement.

    Too narrow below some 20 units (Efron and Tibshirani 1993, §13); infinite for fewer than two.
    """
    rows = np.asarray(values)
    members = _members(groups) if groups is not None else None
    units = len(rows) if members is None else len(members)
    if units < 2:
        return -math.inf, math.inf
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for number in range(draws):
        drawn = rng.integers(units, size=units)
        found[number] = statistic(rows[drawn if members is None else np.concatenate([members[unit] for unit in drawn])])
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t; the normal one for infinite degrees of freedom, infinite for none."""
    from scipy import special

    if freedom < 1:
        return math.inf
    if math.isinf(freedom):
        return float(special.ndtri(probability))
    return float(special.stdtrit(freedom, probability))


def unit_sums(
    values: npt.NDArray[np.float64], groups: Groups | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The sum and the number of the values of each independent unit, in the order of its first value."""
    if groups is None:
        return values, np.ones(values.size)
    labels = _labels(groups)
    return np.bincount(labels, weights=values).astype(np.float64), np.bincount(labels).astype(np.float64)


def error_of_sum(sums: npt.NDArray[np.float64]) -> float:
    """The standard error of a sum from the residuals of its independent units; infinite for fewer than two."""
    return float(math.sqrt(sums.size / (sums.size - 1) * np.sum(sums**2))) if sums.size > 1 else math.inf


def _labels(groups: Groups) -> npt.NDArray[np.intp]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)


def _members(groups: Groups) -> list[npt.NDArray[np.intp]]:
    """The places of the items of each cluster."""
    labels = _labels(groups)
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels))[:-1])
