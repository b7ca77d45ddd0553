"""Approach 1: the envelope of final losses and of training curves gives the planted exponent."""

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.scaling import Points, fit_approach_1
from megalith.scaling.envelope import Curve, curves_of
from tests.scaling.planted import A_OF_C, LAW, on_lengths


def test_the_envelope_of_final_losses_gives_the_planted_exponent() -> None:
    found = fit_approach_1(curves_of(on_lengths(0, noise=1e-5)), resamples=100)
    assert found.parameters.exponent == pytest.approx(A_OF_C, abs=0.005)
    assert found.tokens.exponent == pytest.approx(1 - A_OF_C, abs=0.005)
    middle = len(found.flops) // 2
    assert found.optima[middle] == pytest.approx(LAW.optimal_parameters(found.flops[middle]), rel=0.03)
    assert not found.unfinished


def test_training_curves_are_smoothed_first() -> None:
    """One run of each size, 600 steps with the noise of single batches."""
    random = np.random.default_rng(0)
    curves = []
    for size in np.geomspace(5e7, 5e9, 12):
        tokens = size * np.geomspace(2, 150, 600)
        loss = LAW.E + LAW.A / size**LAW.alpha + LAW.B / tokens**LAW.beta
        curves.append(Curve(size, tokens, loss * np.exp(0.01 * random.standard_normal(600)), finished=False))
    found = fit_approach_1(curves, resamples=100)
    assert found.unfinished
    assert found.parameters.exponent == pytest.approx(A_OF_C, abs=0.06)


def test_seeds_of_one_run_are_averaged() -> None:
    points = on_lengths(0)
    twice = Points(*(np.tile(values, 2) for values in (points.parameters, points.tokens, points.loss)))
    assert [len(curve.loss) for curve in curves_of(twice)] == [4] * 12


def test_what_shows_no_optimum_is_refused() -> None:
    with pytest.raises(InputError, match="the envelope needs 4"):
        fit_approach_1(curves_of(on_lengths(0, sizes=3)))
    points = on_lengths(0)
    always_better = Points(points.parameters, points.tokens, 10 - np.log(points.parameters) / 4 - points.log_d / 100)
    with pytest.raises(InputError, match="smallest or largest size"):
        fit_approach_1(curves_of(always_better))
