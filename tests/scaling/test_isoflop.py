"""Approach 2: the planted optimum is found, edges and too few sizes are refused, published exponents are met."""

import csv
from pathlib import Path

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.scaling import Points, fit_approach_2, read_runs
from megalith.scaling.isoflop import isoflop_groups
from tests.scaling.planted import A_OF_C, LAW, noisy, on_budgets


def test_a_planted_exponent_and_its_optima_are_found() -> None:
    found = fit_approach_2(on_budgets(0, noise=0.001), resamples=200)
    low, high = found.facts()["a"]["interval"]
    assert low < A_OF_C < high < low + 0.08
    assert found.parameters.at(1e20) == pytest.approx(LAW.optimal_parameters(1e20), rel=0.1)
    assert found.parameters.exponent + found.tokens.exponent == pytest.approx(1.0)
    assert found.facts()["budgets"][0]["loss"] == pytest.approx(LAW(8e7, 1e18 / 6 / 8e7), rel=0.03)
    assert not found.left_out


def test_a_straight_path_is_held_for_bent_no_more_often_than_the_test_says() -> None:
    """More than 6 of 40 straight paths are rejected at 5 % about once in two hundred times."""
    p = [fit_approach_2(on_budgets(seed), resamples=20).parameters.curvature_p or 0.0 for seed in range(40)]
    assert sum(value < 0.05 for value in p) <= 6


def test_a_bent_path_of_optima_is_seen() -> None:
    """N_opt ∝ C^(0.5 − 0.02·log C about the middle): the nested F test rejects the straight line."""
    flops = np.repeat(np.geomspace(1e18, 1e22, 9), 7)
    across = np.log(flops / 1e20)
    parameters = 1e9 * np.exp(0.5 * across - 0.02 * across**2) * np.tile(np.geomspace(0.2, 5, 7), 9)
    optimum = np.log(1e9) + 0.5 * across - 0.02 * across**2
    noise = 0.0005 * np.random.default_rng(1).standard_normal(len(flops))
    loss = (2 + 3e2 * flops**-0.12) * np.exp(0.02 * (np.log(parameters) - optimum) ** 2 + noise)
    p = fit_approach_2(Points(parameters, flops / 6 / parameters, loss)).parameters.curvature_p
    assert p is not None and p < 1e-3


def test_runs_are_gathered_into_budgets_whose_flops_differ_a_little() -> None:
    points = on_budgets(0)
    jitter = np.exp(0.05 * np.random.default_rng(0).uniform(-1, 1, len(points)))
    groups = isoflop_groups(Points(points.parameters, points.tokens * jitter, points.loss))
    assert [len(group) for group in groups] == [8] * 6


def test_a_minimum_at_the_edge_is_left_out_and_said_and_too_many_are_refused() -> None:
    points = on_budgets(0)
    first = points.flops < 2e18
    for share, said in ((0.7, "3 runs of no budget with 4 sizes"), (0.5, "the minimum is at the edge, the smallest")):
        kept = ~first | (points.parameters > np.quantile(points.parameters[first], share))
        one_less = fit_approach_2(points[kept], resamples=50)
        assert len(one_less.budgets) == 5
        assert said in one_less.left_out[0]
    small = np.concatenate([group[np.argsort(points.parameters[group])][4:] for group in isoflop_groups(points)])
    with pytest.raises(InputError, match=r"at the edge, the smallest size"):
        fit_approach_2(points[small])


def test_too_few_sizes_or_budgets_are_refused() -> None:
    points = on_budgets(0)
    with pytest.raises(InputError, match="3 are needed"):
        fit_approach_2(points[points.flops < 5e18])
    with pytest.raises(InputError, match="3 are needed"):
        fit_approach_2(noisy(np.geomspace(1e7, 1e9, 12), np.geomspace(1e9, 1e11, 12), 0.0, 0))


@pytest.mark.data
def test_chinchillas_points_give_an_exponent_near_the_prototypes(data_directory: Path) -> None:
    """Nine budgets fitted by hand: a = .514; the paper's .49 (.462, .534)."""
    file = data_directory / "measurements" / "chinchilla_figure4_points.csv"
    found = fit_approach_2(read_runs(file, drop_highest=5).points).facts()["a"]
    assert found["exponent"] == pytest.approx(0.514, abs=0.01)
    assert found["interval"][0] < 0.49 < 0.514 < found["interval"][1]


@pytest.mark.data
def test_the_nine_published_exponents_lie_within_the_intervals(data_directory: Path) -> None:
    """Porian et al. (2406.19146) read their minima off Akima curves; the parabolas' intervals hold all nine."""
    measurements = data_directory / "measurements"
    with (measurements / "formll_exponents.csv").open() as file:
        published = {(row["file"], row["experiment"]): float(row["a_n_exponent"]) for row in csv.DictReader(file)}
    assert len(published) == 9
    for (name, experiment), exponent in published.items():
        runs = read_runs(measurements / "formll_isoflop_points.csv", only=[f"file={name}", f"experiment={experiment}"])
        low, high = fit_approach_2(runs.points).facts()["a"]["interval"]
        assert low < exponent < high, experiment
