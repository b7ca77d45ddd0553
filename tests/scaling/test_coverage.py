"""Planted laws are found again by all three approaches, and the intervals hold the truth as often as they say.

Thirty draws of each: of honest 90 % intervals fewer than 22 hold the truth once in two thousand times. With
`-m slow`, 200 draws: between 85 and 95 % hold it, by the study of `benchmarks/scaling_coverage.py`.
"""

import pytest

from benchmarks.scaling_coverage import APPROACHES, coverage

LEAST = 22 / 30


@pytest.mark.parametrize("approach", APPROACHES)
def test_a_90_percent_interval_holds_the_truth_about_as_often(approach: str) -> None:
    found = coverage(approach, draws=30, resamples=60)
    assert all(share >= LEAST for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("approach", APPROACHES)
def test_over_200_draws_85_to_95_percent_hold_the_truth(approach: str) -> None:
    """Two standard errors of 200 draws either way are chance's."""
    for name, share in coverage(approach, draws=200, resamples=400).items():
        assert 0.83 <= share <= 0.97, name
