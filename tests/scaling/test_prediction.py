"""Foretelling: the forecaster that is chosen, the law's file, intervals, and what is read too far from the runs."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.laws import compute_optimal, law_named
from megalith.laws.fitted import FittedLaw
from megalith.scaling import Points, fit, fit_runs, predict, read_runs
from megalith.scaling.fitting import check_digest, write_law
from megalith.scaling.forecasters import choose_forecaster
from tests.scaling.planted import LAW, on_budgets


@pytest.fixture(scope="module")
def law_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The law of planted runs with ten times as many FLOPs at most as the smallest."""
    folder = tmp_path_factory.mktemp("law")
    points = on_budgets(0)
    lines = [f"{n!r},{d!r},{loss!r}" for n, d, loss in zip(*map(np.ndarray.tolist, (
        points.parameters, points.tokens, points.loss)), strict=True)]  # fmt: skip
    (folder / "runs.csv").write_text("\n".join(["parameters,tokens,loss", *lines]))
    found = fit(folder / "runs.csv", resamples=60, output=folder / "law.json")
    assert found["law"] == str(folder / "law.json")
    assert json.loads(json.dumps(found, allow_nan=False))["forecast"]["held_out_mape"] < 0.01
    return folder / "law.json"


def test_a_larger_run_is_foretold_within_the_interval(law_file: Path) -> None:
    law = check_digest(law_file)
    found = predict(law, parameters=1e10, tokens=1e11)
    low, high = found["interval"]
    assert low < LAW(1e10, 1e11) < high
    assert found["loss"] == pytest.approx(LAW(1e10, 1e11), rel=0.01)
    assert found["outside"]["flops"] == pytest.approx(6)
    assert any("6 times the most of the runs'" in warning for warning in found["warnings"])
    inside = predict(law, flops=1e20)
    assert inside["warnings"] == []
    assert np.ptp(inside["interval"]) < np.ptp(found["interval"])
    assert inside["parameters"] == pytest.approx(LAW.optimal_parameters(1e20), rel=0.2)
    assert predict(law, flops=1e20, level=0.5)["interval"][0] > inside["interval"][0]
    by_tokens = predict(law, tokens=1e10, flops=6e19)
    assert by_tokens["parameters"] == pytest.approx(1e9)
    counted = predict(law, parameters=1e9, tokens=1e10, flops=9e19)  # with attention and logits
    assert (counted["parameters"], counted["tokens"], counted["flops"]) == (1e9, 1e10, 9e19)
    assert counted["by_approach_3"] == by_tokens["by_approach_3"]


def test_what_says_no_run_or_lies_too_far_is_refused(law_file: Path) -> None:
    law = check_digest(law_file)
    for given in ({}, {"parameters": 1e9}):
        with pytest.raises(InputError, match="two of parameters, tokens and FLOPs"):
            predict(law, **given)
    with pytest.raises(InputError, match="these are not one run"):
        predict(law, parameters=1e9, tokens=1e9, flops=6e16)
    with pytest.raises(InputError, match="not a positive"):
        predict(law, parameters=-1.0, tokens=1e9)
    with pytest.raises(InputError, match="not read farther than 10000 times"):
        predict(law, flops=1e26)


def test_a_law_that_was_changed_is_refused(law_file: Path, tmp_path: Path) -> None:
    told = json.loads(law_file.read_text())
    told["theta"][0] += 1e-3
    (tmp_path / "law.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="does not fit its digest"):
        check_digest(tmp_path / "law.json")
    (tmp_path / "law.json").write_text("{}")
    with pytest.raises(InputError, match=r"kind.*scaling fit --output"):
        check_digest(tmp_path / "law.json")


def test_a_fitted_law_stands_beside_the_published_ones(law_file: Path) -> None:
    """As `budget.law`, with the intervals of its own draws."""
    law = law_named(str(law_file))
    optimum = compute_optimal(1e20, str(law_file))
    assert optimum.parameters == pytest.approx(LAW.optimal_parameters(1e20), rel=0.2)
    assert optimum.interval is not None
    assert optimum.interval[0] < optimum.parameters < optimum.interval[1]
    assert law.loss(1e9, 1e10) == pytest.approx(LAW(1e9, 1e10), rel=0.01)
    with pytest.raises(InputError, match="cannot be read"):
        law_named("nowhere.json")


def test_runs_far_from_the_optimum_do_not_spoil_the_forecast_of_those_near_it() -> None:
    """Half of each budget's runs have left the power law by up to 40 %: the forecaster is fitted without them."""
    points = on_budgets(0, budgets=8, sizes=10)
    excess = np.array([LAW(n, d) for n, d in zip(points.parameters, points.tokens, strict=True)])
    best = np.array([LAW(LAW.optimal_parameters(c), c / 6 / LAW.optimal_parameters(c)) for c in points.flops])
    spoilt = points.loss * (1 + 8 * np.maximum(0, excess / best - 1.04))
    runs = Points(points.parameters, points.tokens, spoilt)
    choice = choose_forecaster(runs[runs.flops < 5e20])
    assert choice.best.name != "approach 3"
    assert choice.errors[choice.best.name] < 0.01 < choice.errors["approach 3"]


@pytest.mark.data
@pytest.mark.parametrize("largest", [1, 2])
def test_published_runs_of_the_largest_budgets_are_foretold_within_one_and_a_half_percent(
    largest: int, data_directory: Path
) -> None:
    """Nine IsoFLOP settings (2406.19146), one or two budgets left out, 2 and 4 times the FLOPs of the rest."""
    measurements = data_directory / "measurements"
    with (measurements / "formll_exponents.csv").open() as file:
        settings = [(row["file"], row["experiment"]) for row in csv.DictReader(file)]
    for name, experiment in settings:
        only = [f"file={name}", f"experiment={experiment}"]
        points = read_runs(measurements / "formll_isoflop_points.csv", only=only).points
        cut = np.unique(points.flops)[-largest]
        smaller, larger = points[points.flops < cut], points[points.flops >= cut]
        found = choose_forecaster(smaller).best.fit(smaller).log_loss(larger)
        assert np.abs(np.expm1(found - larger.log_loss)).mean() < 0.015, experiment


@pytest.mark.data
@pytest.mark.parametrize("way", ["flops", "parameters"])
def test_chinchillas_larger_runs_are_foretold_within_one_and_a_half_percent(way: str, data_directory: Path) -> None:
    points = read_runs(data_directory / "measurements" / "chinchilla_figure4_points.csv", drop_highest=5).points
    largest = getattr(points, way) >= np.quantile(getattr(points, way), 0.8)
    smaller, larger = points[~largest], points[largest]
    found = choose_forecaster(smaller).best.fit(smaller).log_loss(larger)
    assert np.abs(np.expm1(found - larger.log_loss)).mean() < 0.015


def test_a_law_is_the_same_for_the_same_runs_and_seed(law_file: Path, tmp_path: Path) -> None:
    runs = read_runs(law_file.with_name("runs.csv"))
    law: FittedLaw = fit_runs(runs, resamples=60)[1]
    write_law(tmp_path / "law.json", law)
    assert check_digest(tmp_path / "law.json").digest == check_digest(law_file).digest
