"""Errors and intervals against simulation and published values."""

import math
from itertools import pairwise

import numpy as np
import pytest

from megalith.statistics import mean_and_standard_error, ratio_and_standard_error, wilson_interval
from megalith.statistics.histogram import counts_between, round_edges


def test_the_standard_error_of_a_mean_is_that_of_the_textbook() -> None:
    mean, error = mean_and_standard_error([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert mean_and_standard_error([7.0]) == (7.0, math.inf)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), Table I: 15 of 148, method 3 (Wilson score without continuity correction).
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_delta_method_agrees_with_the_spread_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        tokens = rng.integers(20, 400, size=300).astype(float)
        nats = tokens * rng.normal(3.0, 0.5, size=300)
        return nats, tokens

    ratios = [nats.sum() / tokens.sum() for nats, tokens in (sample() for _ in range(800))]
    errors = [ratio_and_standard_error(*sample())[1] for _ in range(50)]
    # The spread of 800 draws is itself known to 1/√1600 = 2.5 %; three of those.
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.075)


def test_no_documents_have_no_error() -> None:
    assert all(math.isnan(value) for value in ratio_and_standard_error([], []))
    assert ratio_and_standard_error([6.0], [2.0]) == (3.0, math.inf)


@pytest.mark.parametrize("seed", range(5))
def test_edges_are_round_and_counts_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.normal(), 10.0 ** rng.integers(-2, 3), size=500).tolist()
    edges = round_edges(values)
    assert 8 < len(edges) <= 25 and edges[0] <= min(values) and max(values) < edges[-1]
    assert 0 in edges or min(values) > 0 or max(values) < 0
    width = edges[1] - edges[0]
    assert width == pytest.approx(float(f"{width:.2g}"))
    assert counts_between(edges, values) == [
        sum(low <= value < high for value in values) for low, high in pairwise(edges)
    ]
    assert round_edges([2.0, 2.0])[0] <= 2.0 < round_edges([2.0, 2.0])[-1]
