"""`plan budget` with a law of one's own, with tokens that repeat, with inference, and of a run in flight."""

import json
from pathlib import Path

import numpy as np
import pytest

from megalith import verbs
from megalith.errors import InputError, RecipeError, UnsupportedError
from megalith.laws import LAWS, LossFormula, loss_on_repeated
from megalith.recipe import load_recipe
from megalith.scaling import fit_runs, read_runs
from megalith.scaling.fitting import write_law
from tests.scaling.planted import LAW, on_budgets


@pytest.fixture(scope="module")
def law_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    points = on_budgets(0)
    lines = [
        f"{n:.6g},{d:.6g},{loss:.6g}" for n, d, loss in zip(points.parameters, points.tokens, points.loss, strict=True)
    ]
    (folder / "runs.csv").write_text("\n".join(["parameters,tokens,loss", *lines]))
    write_law(folder / "law.json", fit_runs(read_runs(folder / "runs.csv"), resamples=40)[1])
    return folder / "law.json"


def test_a_fitted_law_stands_beside_the_published_ones(law_file: Path) -> None:
    found = verbs.plan_budget(1e20, law=[str(law_file)])
    assert [row["law"] for row in found["laws"]] == [*LAWS, str(law_file)]
    own = found["laws"][-1]
    low, high = own["intervals"]["parameters"] or (0, 0)
    assert low < LAW.optimal_parameters(1e20) < high
    assert own["intervals_from"] == "intervals from 40 bootstraps of its runs"
    bounds = own["intervals"]["loss"]
    assert bounds is not None and bounds[0] < (own["loss"] or 0) < bounds[1]


def test_a_recipe_takes_a_fitted_law(law_file: Path) -> None:
    recipe = load_recipe("quickstart", [f"budget.law={law_file}", "budget.flops=1e19", "budget.hours=null"])[0]
    assert recipe.budget.law == str(law_file)
    with pytest.raises(RecipeError, match=r"budget\.law"):
        load_recipe("quickstart", ["budget.law=chinchilla-9"])


def test_few_tokens_are_repeated_and_the_best_model_for_them_is_smaller(law_file: Path) -> None:
    rows = {row["law"]: row for row in verbs.plan_budget(1e21, tokens_available=1e10, law=[str(law_file)])["laws"]}
    assert rows["kaplan"]["repetition"] is None  # it has no formula of the loss
    one = rows["chinchilla-refit"]["repetition"]
    assert one is not None
    assert one["best"]["loss"] < one["loss"]
    assert one["epochs"] == pytest.approx(rows["chinchilla-refit"]["tokens"] / 1e10)
    assert one["best"]["epochs"] > one["epochs"]
    plenty = verbs.plan_budget(1e21, tokens_available=1e13)["laws"][3]
    assert plenty["repetition"] is not None
    assert plenty["repetition"]["loss"] == pytest.approx(plenty["loss"])


def test_the_losss_law_without_repetition_is_the_formula() -> None:
    formula = LAWS["chinchilla-refit"].formula
    assert isinstance(formula, LossFormula)
    assert float(loss_on_repeated(formula, 1e9, 2e10, 2e10)) == pytest.approx(formula(1e9, 2e10))


def test_a_model_that_serves_is_smaller_and_saves() -> None:
    row = next(
        row for row in verbs.plan_budget(1e23, inference_tokens=1e13)["laws"] if row["law"] == "chinchilla-refit"
    )
    one = row["inference"]
    assert one is not None
    assert one["parameters"] < row["parameters"] and one["tokens"] > row["tokens"]
    assert one["loss"] == pytest.approx(row["loss"])
    assert 0 < one["saving"] < 1
    with pytest.raises(RecipeError, match="--inference-tokens"):
        verbs.plan_budget(1e23, inference_tokens=-1.0)


def run_in_flight(directory: Path, share: float) -> float:
    """The log of a run that follows its law so far; its loss at the end."""
    from megalith.scaling.in_flight import _areas, _loss
    from megalith.training.lr_schedule import learning_rate

    tokens = 4096
    recipe = load_recipe("quickstart", ["budget.hours=null", f"train.tokens={1000 * tokens}", "model.num_layers=2",
                                        "model.hidden_size=64", "model.num_heads=2"])[0]  # fmt: skip
    rates = np.array([learning_rate(recipe.train, step * tokens) for step in range(1, 1001)])
    losses = _loss(np.array([2.5, 0.3, 0.5, 0.15]), *_areas(rates))
    random = np.random.default_rng(0)
    (directory / "plan").mkdir(parents=True)
    (directory / "plan" / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json", by_alias=True)))
    logs = directory / ".train.partial" / "logs"
    logs.mkdir(parents=True)
    with (logs / "metrics.jsonl").open("w") as file:
        for step in range(int(1000 * share)):
            loss = losses[step] * float(np.exp(0.01 * random.standard_normal()))
            row = {"step": step + 1, "tokens": (step + 1) * tokens, "loss": loss, "learning_rate": rates[step]}
            file.write(json.dumps(row) + "\n")
        file.write('{"step": 1001, "tok')  # a line that is being written
    return float(losses[-1])


def test_the_end_of_a_run_in_flight_is_foretold(tmp_path: Path) -> None:
    """By 60 % of a cosine run: within its interval, and near."""
    truth = run_in_flight(tmp_path / "run", 0.6)
    found = verbs.plan_budget(from_run=tmp_path / "run")
    run = found["run"]
    assert found["laws"] == []
    assert (run["steps_made"], run["steps"]) == (600, 1000)
    assert run["loss_at_end"] == pytest.approx(truth, rel=0.02)
    assert run["interval"][0] < run["loss_now"]
    assert 0 < run["still_to_gain"] < 0.5
    assert run["tokens"] < run["may_stop_at_tokens"] <= 1000 * 4096


def test_a_run_that_has_hardly_begun_and_other_budgets_are_refused(tmp_path: Path) -> None:
    run_in_flight(tmp_path / "run", 0.1)
    with pytest.raises(InputError, match="100 of 1000 steps"):
        verbs.plan_budget(from_run=tmp_path / "run")
    with pytest.raises(InputError, match="no training is under way"):
        verbs.plan_budget(from_run=tmp_path)
    with pytest.raises(UnsupportedError, match="--from alone"):
        verbs.plan_budget(1e20, from_run=tmp_path / "run")
