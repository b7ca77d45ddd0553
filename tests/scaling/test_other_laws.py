"""Kaplan's law, repeated tokens, the profile of E and the tests of curvature, on runs whose law is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from megalith import scaling_fit
from megalith.cli import app
from megalith.errors import InputError
from megalith.laws import LossFormula, effective
from megalith.scaling import Points, fit_approach_3, fit_kaplan, fit_repetition
from megalith.scaling.checks import curvature_test, leave_largest_out, profile_e
from megalith.scaling.parametric import CurvedLaw, KaplanLaw
from tests.scaling.planted import LAW, on_budgets

DRAW = np.random.default_rng(4)


def test_kaplans_law_is_found_again_with_its_optimum() -> None:
    points = on_budgets(0)
    theta = np.array([[32.1, 33.4, 0.076, 0.103]])
    planted = np.exp(KaplanLaw(points.log_n, points.log_d)(theta)[0][0] + 0.0005 * DRAW.standard_normal(len(points)))
    found = fit_kaplan(Points(points.parameters, points.tokens, planted), resamples=40)
    assert found.theta[2:] == pytest.approx([0.076, 0.103], rel=0.03)
    low, high = found.facts()["a"]["interval"]
    assert low < 0.103 / 0.179 < high
    sizes = np.geomspace(1e6, 1e13, 40_001)
    best = sizes[found.loss(sizes, 1e21 / 6 / sizes).argmin()]
    assert found.optimal_parameters(np.array(1e21)) == pytest.approx(best, rel=1e-3)


def repeating(noise: float = 0.002) -> Points:
    """Fresh runs of eight sizes, and runs of up to 40 epochs with R_D* 15 and R_N* 5."""
    formula = LossFormula(1.87, 521.0, 1488.0, 0.353, 0.353)
    n = np.concatenate([np.repeat(np.geomspace(1e7, 3e9, 8), 5), np.repeat(np.geomspace(1e7, 1e9, 5), 12)])
    fresh = n[:40] * np.tile(np.geomspace(5, 80, 5), 8)
    unique = np.concatenate([fresh, np.tile(np.repeat(np.geomspace(1e8, 1e10, 3), 4), 5)])
    d = np.concatenate([fresh, unique[40:] * np.tile([2, 4, 10, 40], 15)])
    fitting = np.array([formula.parameters_for(one) for one in unique])
    size = np.where(d > unique, effective(n, np.minimum(n, fitting), 5.0), n)
    loss = formula.E + formula.A / size**formula.alpha + formula.B / effective(d, unique, 15.0) ** formula.beta
    return Points(n, d, loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(n))), unique_tokens=unique)


def test_what_repeated_tokens_are_worth_is_found_again() -> None:
    found = fit_repetition(repeating(), resamples=60).facts()
    assert found["R_D_interval"][0] < 15 < found["R_D_interval"][1]
    assert found["R_N_interval"][0] < 5 < found["R_N_interval"][1]
    assert found["R_D"] == pytest.approx(15, rel=0.15)
    assert found["pays_until"] == pytest.approx(1 + found["R_D"] * np.log(2))


def test_one_size_is_enough_for_what_tokens_are_worth_and_says_nothing_of_parameters() -> None:
    d = np.concatenate([np.geomspace(1e7, 3.2e8, 8), np.array([2, 4, 8, 16, 32]) * 1e7])
    unique = np.concatenate([d[:8], np.full(5, 1e7)])
    loss = (2.0 + 3000 / effective(d, unique, 9.0) ** 0.4) * np.exp(0.001 * DRAW.standard_normal(13))
    found = fit_repetition(Points(np.full(13, 1e6), d, loss, unique_tokens=unique), resamples=60).facts()
    assert found["one_size"] and found["R_N"] is None
    assert found["R_D"] == pytest.approx(9, rel=0.1)


def test_runs_of_one_size_are_fitted_by_the_verb_and_give_no_law_of_sizes(tmp_path: Path) -> None:
    d = np.concatenate([np.geomspace(1e7, 3.2e8, 6), np.array([2, 4, 8, 16, 32]) * 1e7])
    unique = np.concatenate([d[:6], np.full(5, 1e7)])
    loss = 2.0 + 3000 / effective(d, unique, 9.0) ** 0.4
    rows = [f"1e6,{a!r},{b!r},{c!r}" for a, b, c in zip(d.tolist(), unique.tolist(), loss.tolist(), strict=True)]
    runs = tmp_path / "runs.csv"
    runs.write_text("\n".join(["parameters,tokens,unique_tokens,loss", *rows]))
    found = scaling_fit(runs)
    assert found["approach"] is None and found["points"] == 11
    assert [found[name] for name in ("E", "B", "beta")] == pytest.approx([2.0, 3000, 0.4], rel=0.02)
    assert found["repetition"]["R_D"] == pytest.approx(9, rel=0.05)
    told = np.array(found["repetition"]["runs"])
    assert told[:, 3] == pytest.approx(loss) and told[:, 4] == pytest.approx(loss, rel=2e-3)
    assert "11 runs of one size" in CliRunner().invoke(app, ["scaling", "fit", str(runs)]).stdout
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["scaling", "fit", str(runs), "--page", str(page)]).exit_code == 0
    assert "Repeated tokens" in page.read_text() and "The optimum" not in page.read_text()
    with pytest.raises(InputError, match="of one size"):
        scaling_fit(runs, output=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_page_draws_repeated_tokens_where_runs_repeat_them(tmp_path: Path) -> None:
    points = repeating()
    columns = (points.parameters, points.tokens, points.unique_tokens, points.loss)
    rows = [",".join(map(repr, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    runs = tmp_path / "runs.csv"
    for kept, drawn in ((len(rows), True), (40, False)):
        runs.write_text("\n".join(["parameters,tokens,unique_tokens,loss", *rows[:kept]]))
        scaling_fit(runs, page=tmp_path / "laws.html", resamples=20)
        page = (tmp_path / "laws.html").read_text(encoding="utf-8")
        assert ('id="repetition"' in page) is drawn and ("R_D*" in page) is drawn


def test_repetition_wants_runs_that_repeat_and_runs_that_do_not() -> None:
    points = repeating()
    with pytest.raises(InputError, match="repeat their tokens: 0"):
        fit_repetition(points[np.arange(40)])
    for first, fresh in ((40, 0), (35, 5)):
        with pytest.raises(InputError, match=f"runs of one epoch: {fresh}"):
            fit_repetition(points[np.arange(first, 60)])
    with pytest.raises(InputError, match="does not fall with both"):
        fit_repetition(replace(points, loss=np.full(len(points), 3.0)))
    one_size = points[np.flatnonzero(points.parameters == points.parameters[0])]
    with pytest.raises(InputError, match="need 4"):
        fit_repetition(one_size[np.arange(3, len(one_size))])


def test_the_profile_of_e_has_its_minimum_at_the_fit_and_holds_the_truth() -> None:
    points = on_budgets(1)
    fit = fit_approach_3(points)
    profile = profile_e(points, fit)
    assert min(profile["objective"]) >= fit.objective * (1 - 1e-9)
    assert profile["interval"][0] < LAW.E < profile["interval"][1]
    assert profile["values"][int(np.argmin(profile["objective"]))] == pytest.approx(fit.E, rel=0.02)


def test_terms_that_bend_are_seen_and_straight_ones_are_not_held_for_bent() -> None:
    points = on_budgets(2)
    straight = curvature_test(points, fit_approach_3(points))
    assert straight["p"] > 0.01
    theta = np.array([[*np.log([480.0, 2100.0, 1.8]), 0.35, 0.37, -0.02, -0.02]])
    bent = np.exp(CurvedLaw(points.log_n, points.log_d)(theta)[0][0] + 0.002 * DRAW.standard_normal(len(points)))
    curved = Points(points.parameters, points.tokens, bent)
    found = curvature_test(curved, fit_approach_3(curved))
    assert found["p"] < 1e-3 and found["gain"] > 0.1


def test_larger_runs_that_follow_the_law_are_foretold_to_their_noise() -> None:
    found = leave_largest_out(on_budgets(0, noise=0.002))
    assert {one.way for one in found} >= {"the largest fifth by FLOPs", "the largest fifth by parameters"}
    assert all(one.mape < 0.01 for one in found)
    assert max(one.factor for one in found) > 3
