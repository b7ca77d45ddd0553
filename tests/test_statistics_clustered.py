"""Intervals of samples in clusters against simulation, closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from megalith.statistics import (
    bootstrap_interval,
    clustered_interval,
    clustered_mean_and_standard_error,
    effective_sample_size,
    mean_and_standard_error,
    ratio_and_standard_error,
    wilson_interval,
)


def passages(rng: np.random.Generator, passages: int, each: int) -> tuple[list[float], list[int]]:
    """0/1 scores of questions on passages of unlike difficulty; the expected score is 0.6."""
    difficulty = rng.beta(1.8, 1.2, size=passages)
    scores = rng.random((passages, each)) < difficulty[:, None]
    return scores.ravel().astype(float).tolist(), np.repeat(np.arange(passages), each).tolist()


def test_clusters_of_one_have_the_error_of_independent_values() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    assert clustered_mean_and_standard_error(values, range(50)) == pytest.approx(mean_and_standard_error(values))
    assert clustered_interval(values) == pytest.approx(
        stats.t.interval(0.95, 49, loc=np.mean(values), scale=stats.sem(values))
    )


def test_equal_clusters_have_the_error_of_the_mean_of_their_means() -> None:
    values, groups = passages(np.random.default_rng(1), 40, 5)
    means = np.reshape(values, (40, 5)).mean(axis=1)
    shuffled = np.random.default_rng(2).permutation(200)
    found = clustered_mean_and_standard_error([values[i] for i in shuffled], [groups[i] for i in shuffled])
    assert found == pytest.approx((means.mean(), stats.sem(means)))


def test_repeating_every_item_leaves_the_clustered_error_as_it_is() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    once = mean_and_standard_error(values)
    assert clustered_mean_and_standard_error(values * 7, list(range(6)) * 7) == pytest.approx(once)
    assert effective_sample_size(values * 7, list(range(6)) * 7) == pytest.approx(5)  # n − 1: s² is the sample's
    assert ratio_and_standard_error(values * 7, [2.0] * 42, list(range(6)) * 7) == pytest.approx(
        ratio_and_standard_error(values, [2.0] * 6)
    )


def test_one_cluster_says_nothing_of_its_error() -> None:
    assert clustered_mean_and_standard_error([0.0, 1.0], ["a", "a"]) == (0.5, math.inf)
    assert clustered_interval([2.0, 3.0], ["a", "a"]) == (-math.inf, math.inf)
    low, high = clustered_interval([0.0, 1.0], ["a", "a"], proportion=True)
    assert (low, high) == pytest.approx((0, 1), abs=1e-6)


def test_a_clustered_proportion_is_honest_at_the_ends() -> None:
    groups = np.repeat(np.arange(12), 20).tolist()
    low, high = clustered_interval([1.0] * 240, groups, proportion=True)
    t = stats.t.ppf(0.975, 11)
    assert (low, high) == pytest.approx((12 / (12 + t * t), 1.0))  # Wilson's closed form at p = 1, n = 12
    assert clustered_interval([0.0, 1.0, 1.0], None, proportion=True) == wilson_interval(2, 3)


@pytest.mark.parametrize("count", [6, 25])
def test_the_clustered_interval_covers_what_it_says_and_the_unclustered_does_not(count: int) -> None:
    rng = np.random.default_rng(3)
    covered, naive = 0, 0
    for _ in range(600):
        values, groups = passages(rng, count, 10)
        low, high = clustered_interval(values, groups, proportion=True)
        covered += low <= 0.6 <= high
        low, high = wilson_interval(sum(values), len(values))
        naive += low <= 0.6 <= high
    # Three standard errors of a share of 600 at 0.95: 2.7 points.
    assert covered / 600 == pytest.approx(0.95, abs=0.03)
    assert naive / 600 < 0.85


def test_the_bootstrap_of_a_mean_has_the_width_of_the_analytic_interval() -> None:
    values, groups = passages(np.random.default_rng(4), 60, 5)
    low, high = bootstrap_interval(values, lambda rows: float(rows.mean()), 2000, 0, groups)
    _, error = clustered_mean_and_standard_error(values, groups)
    # The width of 2,000 draws' percentiles is known to some 3 %; n against n − 1 is one more.
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert bootstrap_interval(values, np.mean, 50, 0) == bootstrap_interval(values, np.mean, 50, 0)
    assert bootstrap_interval([1.0], np.mean) == (-math.inf, math.inf)


def test_a_statistic_of_rows_is_drawn_row_by_row() -> None:
    rows = np.array([[1.0, 10.0]] * 30)
    assert bootstrap_interval(rows, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()), 20) == (0.1, 0.1)
