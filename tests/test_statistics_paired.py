"""Comparisons of two models and of many tasks against scipy, closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from megalith.statistics import (
    equivalence_p,
    false_discovery,
    linear_scores,
    mcnemar,
    paired_difference,
    smallest_visible_difference,
    variance_parts,
)


def test_a_paired_difference_is_students_paired_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    found, expected = paired_difference(a.tolist(), b.tolist()), stats.ttest_rel(b, a)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_a_clustered_difference_is_the_test_of_the_cluster_means() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 15, 4)) + rng.normal(size=(2, 15, 1))
    found = paired_difference(a.ravel().tolist(), b.ravel().tolist(), np.repeat(np.arange(15), 4).tolist())
    assert found.p == pytest.approx(stats.ttest_rel(b.mean(axis=1), a.mean(axis=1)).pvalue)


def test_equal_scores_do_not_claim_certainty() -> None:
    found = paired_difference([1.0] * 50, [1.0] * 50, proportion=True)
    assert (found.difference, found.p) == (0, 1)
    # Agresti and Min's closed form: 52 pairs of which half a one is discordant either way.
    assert found.interval[1] == pytest.approx(stats.t.ppf(0.975, 49) / 52)
    assert paired_difference([1.0], [0.0], proportion=True).interval == (-math.inf, math.inf)


def test_the_interval_of_a_paired_proportion_covers_what_it_says() -> None:
    rng = np.random.default_rng(2)
    for cells in ([0.6, 0.1, 0.04, 0.26], [0.9, 0.02, 0.01, 0.07]):  # both right, b alone, a alone, neither
        drawn = rng.multinomial(80, cells, size=500)
        covered = 0
        for both, b_only, a_only, neither in drawn.tolist():
            a = [1.0] * both + [0.0] * b_only + [1.0] * a_only + [0.0] * neither
            b = [1.0] * both + [1.0] * b_only + [0.0] * a_only + [0.0] * neither
            low, high = paired_difference(a, b, proportion=True).interval
            covered += low <= cells[1] - cells[2] <= high
        assert 0.93 <= covered / 500 <= 1


def test_mcnemar_is_the_binomial_test_for_few_and_lies_under_it_for_many() -> None:
    assert mcnemar(2, 9) == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1
    assert mcnemar(0, 24) == pytest.approx(2 * 0.5**24)
    # The mid-p test takes the half of the observed count's own probability, on both sides.
    exact, point = stats.binomtest(40, 100).pvalue, stats.binom.pmf(40, 100, 0.5)
    assert mcnemar(40, 60) == mcnemar(60, 40) == pytest.approx(exact - point)
    # For many it meets the chi-square test without continuity correction.
    assert mcnemar(480, 520) == pytest.approx(stats.chi2.sf(40**2 / 1000, 1), abs=1e-3)


def test_mcnemars_test_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    drawn = rng.binomial(60, 0.5, size=4000).tolist()
    # 4,000 draws know a rate of 5 % to 0.34 points; the test is discrete and may err less.
    assert 0.02 < np.mean([mcnemar(count, 60 - count) <= 0.05 for count in drawn]) < 0.06


def test_the_smallest_visible_difference_is_seen_in_four_of_five_samples() -> None:
    assert smallest_visible_difference(1.0) == pytest.approx(1.959964 + 0.841621)
    rng = np.random.default_rng(4)
    shift = smallest_visible_difference(1 / math.sqrt(200))
    samples = rng.normal(shift, 1, size=(1500, 200))
    seen = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.031)  # three standard errors of 1,500 draws


def test_equivalence_is_two_one_sided_tests() -> None:
    rng = np.random.default_rng(5)
    steps = rng.normal(0.02, 0.3, size=120)
    found = paired_difference([0.0] * 120, steps.tolist())
    lower = stats.ttest_1samp(steps, -0.1, alternative="greater").pvalue
    upper = stats.ttest_1samp(steps, 0.1, alternative="less").pvalue
    assert equivalence_p(found.difference, found.error, 0.1, found.freedom) == pytest.approx(max(lower, upper))
    assert equivalence_p(0.0, math.inf, 0.1) == 1
    assert equivalence_p(0.1, 0.05, 0.1) == pytest.approx(0.5)


def test_a_ratio_difference_has_the_spread_of_repeated_samples() -> None:
    rng = np.random.default_rng(6)

    def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = rng.integers(20, 400, size=100).astype(float)
        hard = rng.normal(3.0, 0.5, size=100)
        return size * hard, size * (hard - 0.1 + rng.normal(0, 0.1, size=100)), size

    found = [
        paired_difference(linear_scores(a, size).tolist(), linear_scores(b, size).tolist())
        for a, b, size in (sample() for _ in range(600))
    ]
    differences = [one.difference for one in found]
    # The spread of 600 draws is itself known to 1/√1200 = 2.9 %; three of those.
    assert np.mean([one.error for one in found]) == pytest.approx(np.std(differences), rel=0.09)
    assert np.mean([one.interval[0] <= -0.1 <= one.interval[1] for one in found]) == pytest.approx(0.95, abs=0.03)


def test_false_discovery_is_scipys() -> None:
    p = np.random.default_rng(7).random(30) ** 3
    assert false_discovery(p.tolist()) == pytest.approx(stats.false_discovery_control(p))
    with_gap = false_discovery([0.01, math.nan, 0.04])
    assert with_gap[0] == 0.02 and math.isnan(with_gap[1]) and with_gap[2] == 0.04
    assert false_discovery([]) == []


def test_planted_variances_come_out_as_planted() -> None:
    rng = np.random.default_rng(8)
    items, shots, seeds = 400, 30, 30
    table = (
        rng.normal(0, 2.0, size=(items, 1, 1))
        + rng.normal(0, 1.0, size=(1, shots, 1))
        + rng.normal(0, 0.5, size=(1, 1, seeds))
        + rng.normal(0, 0.7, size=(items, shots, 1))
        + rng.normal(0, 0.3, size=(items, shots, seeds))
    )
    found = {part.axes: part for part in variance_parts(table)}
    assert set(found) >= {("items",), ("shots",), ("seeds",), ("items", "shots", "seeds")}
    # A variance known from n draws has a relative error of √(2/n): 30 draws, 26 %, two of those.
    assert found["items",].variance == pytest.approx(4.0, rel=0.2)
    assert found["shots",].variance == pytest.approx(1.0, rel=0.52)
    assert found["seeds",].variance == pytest.approx(0.25, rel=0.52)
    assert found["items", "shots"].variance == pytest.approx(0.49, rel=0.05)
    assert found["items", "shots", "seeds"].variance == pytest.approx(0.09, rel=0.02)
    assert sum(part.share for part in found.values()) == pytest.approx(1)
    assert found["shots",].of_mean == pytest.approx(found["shots",].variance / shots)


def test_two_factors_are_those_of_the_textbooks_analysis_of_variance() -> None:
    table = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 6.0], [8.0, 7.0, 12.0], [2.0, 4.0, 4.0]])
    rows, columns = table.shape
    mean = table.mean()
    of_rows = columns * np.sum((table.mean(axis=1) - mean) ** 2) / (rows - 1)
    of_columns = rows * np.sum((table.mean(axis=0) - mean) ** 2) / (columns - 1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + mean
    residual = np.sum(rest**2) / ((rows - 1) * (columns - 1))
    found = {part.axes: part.variance for part in variance_parts(table, ("items", "shots"))}
    assert found["items", "shots"] == pytest.approx(residual)
    assert found["items",] == pytest.approx((of_rows - residual) / columns)
    assert found["shots",] == pytest.approx((of_columns - residual) / rows)


def test_an_axis_of_one_has_no_part_and_a_table_with_gaps_is_refused() -> None:
    assert [part.axes for part in variance_parts([[[1.0], [2.0]], [[2.0], [5.0]]])] == [
        ("items",), ("shots",), ("items", "shots"),
    ]  # fmt: skip
    assert variance_parts([[3.0]]) == []
    with pytest.raises(ValueError, match="full"):
        variance_parts([[1.0, math.nan]])
