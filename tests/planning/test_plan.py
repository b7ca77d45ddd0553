"""The plan stage: one small real plan, and the decisions with workers that are told what to say."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from megalith.arithmetic import flops_per_token, parameters
from megalith.artifacts import Artifact
from megalith.errors import RecipeError, ResourceError
from megalith.planning.budget import budget
from megalith.planning.layout import layout
from megalith.planning.plan import check, plan, refuse_unasked_length
from megalith.recipe import Recipe, load_recipe
from tests.planning.measuring.fakes import install

SMALL = ("budget.flops=null", "model.num_layers=1", "model.hidden_size=32", "model.num_heads=2",
         "model.sequence_length=32", "model.vocab_size=512", "tokenize.vocab_size=512", "train.tokens=20480",
         "train.global_batch_size=4")  # fmt: skip


def quickstart(*overrides: str) -> Recipe:
    return load_recipe("quickstart", ["budget.flops=2e13", *overrides])[0]


def tokens(train: int, digest: str = "a" * 64) -> Artifact:
    facts = {"tokens": {"train": train, "validation": 8192}}
    return cast(Artifact, SimpleNamespace(facts=facts, digest=digest))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and rates by formula: bf16 twice as fast, all layouts alike."""
    install(monkeypatch, lambda q: 0.01 * q["micro_batch_size"] / q["threads"] / (2 if q["precision"] == "bf16" else 1))


def chosen(artifact: Artifact) -> Recipe:
    return Recipe.model_validate_json((artifact.path / "recipe.json").read_text())


def test_a_real_plan_decides_everything_and_predicts_in_plain_json(tmp_path: Path) -> None:
    artifact = plan(quickstart(*SMALL), tmp_path / "plan", None)
    decided = chosen(artifact)
    assert decided.train.micro_batch_size
    assert decided.train.precision in ("fp32", "bf16")
    assert (decided.parallel.tensor, decided.parallel.pipeline) == (1, 1)
    assert 4 % ((decided.parallel.data or 0) * decided.train.micro_batch_size) == 0
    facts = artifact.facts
    json.dumps(facts, allow_nan=False)
    assert 0 < facts["interval"][0] < facts["step_seconds"] < facts["interval"][1]
    assert facts["memory_bytes"] == sum(facts["memory"].values()) > 100e6  # torch alone takes more
    assert facts["steps"] == 160
    assert facts["seconds"] > facts["steps"] * facts["step_seconds"]
    assert facts["machine"]["gemm_flops_per_second"]["fp32"] > 1e8
    assert "accelerators" not in facts["machine"]  # of a processor alone
    assert facts["epochs"] is None


@pytest.mark.usefixtures("told")
def test_the_recipe_it_writes_is_a_whole_one(tmp_path: Path) -> None:
    artifact = plan(quickstart(), tmp_path / "plan", None)
    decided, facts = chosen(artifact), artifact.facts
    assert decided.model.is_sized
    assert decided.train.tokens == facts["tokens"] == facts["steps"] * 16 * 256
    assert decided.train.precision == facts["layout"]["precision"] == "bf16"
    assert decided.train.micro_batch_size == facts["layout"]["micro_batch_size"]
    assert decided.parallel.data == facts["layout"]["data"]
    assert facts["parameters"] == parameters(decided.model).total
    assert facts["flops"] == flops_per_token(decided.model) * facts["tokens"] <= 2e13
    assert facts["flops_per_step"] * facts["steps"] == pytest.approx(facts["flops"])
    assert {law["law"] for law in facts["laws"]} >= {"chinchilla-1", "chinchilla-3", "kaplan"}
    assert [shape["chosen"] for shape in facts["shapes"]].count(True) == 1
    assert decided.evaluate == quickstart().evaluate  # what a plan does not decide is left as it was


@pytest.mark.usefixtures("told")
def test_a_plan_that_stands_is_kept_and_two_builds_decide_alike(tmp_path: Path) -> None:
    first = plan(quickstart(), tmp_path / "plan", None)
    again = plan(quickstart(), tmp_path / "plan", None)
    elsewhere = plan(quickstart(), tmp_path / "other", None)
    assert (first.reused, again.reused) == (False, True)
    assert first.digest == again.digest == elsewhere.digest


@pytest.mark.usefixtures("told")
def test_what_a_plan_does_not_depend_on_does_not_make_it_anew(tmp_path: Path) -> None:
    plan(quickstart(), tmp_path / "plan", None)
    assert plan(quickstart("train.learning_rate=1e-4", "evaluate.items=7"), tmp_path / "plan", None).reused
    assert not plan(quickstart("train.global_batch_size=32"), tmp_path / "plan", None).reused
    assert not plan(quickstart("train.global_batch_size=32"), tmp_path / "plan", tokens(10**6)).reused


@pytest.mark.usefixtures("told")
def test_given_shape_and_tokens_are_kept(tmp_path: Path) -> None:
    decided = chosen(plan(quickstart(*SMALL, "parallel.data=2", "train.precision=fp32"), tmp_path / "plan", None))
    assert (decided.model.layers, decided.model.hidden, decided.train.tokens) == (1, 32, 20480)
    assert (decided.parallel.data, decided.train.precision) == (2, "fp32")


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("available", "warned"), [(100_000, True), (10_000_000, False)])
def test_epochs_are_counted_and_too_many_are_warned_of(available: int, warned: bool, tmp_path: Path) -> None:
    facts = plan(quickstart(), tmp_path / "plan", tokens(available)).facts
    assert facts["epochs"] == pytest.approx(facts["tokens"] / available)
    assert any("epochs" in warning for warning in facts["warnings"]) == warned


@pytest.mark.usefixtures("told")
def test_a_law_used_below_its_models_is_warned_of(tmp_path: Path) -> None:
    small = plan(quickstart(), tmp_path / "small", None).facts["warnings"]
    assert any("44M" in warning and "extrapolated" in warning for warning in small)
    given = quickstart("budget.law=kaplan")
    assert not any("extrapolated" in warning for warning in plan(given, tmp_path / "kaplan", None).facts["warnings"])


def test_a_model_that_cannot_fit_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    asked = load_recipe("gpt3-175b", ["cluster.name=local"])[0]
    with pytest.raises(ResourceError, match="million parameters or fewer"):
        plan(asked, tmp_path / "plan", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("told")
def test_layout_prints_the_keys_of_the_design() -> None:
    found: dict[str, Any] = json.loads(json.dumps(layout(quickstart()), allow_nan=False))
    assert {"best", "step_seconds", "tflops_per_gpu", "memory_bytes", "bubble_fraction", "interval", "runners_up",
            "candidates_considered", "search_seconds"} <= set(found)  # fmt: skip
    assert {"tensor", "pipeline", "data", "micro_batch_size", "virtual_stages", "schedule", "recompute",
            "sequence_parallel", "zero"} <= set(found["best"])  # fmt: skip
    assert all(row["why"] for row in found["runners_up"])
    flops_per_step = 9437184.0 * 16 * 256  # of 4 layers of 128, counted by hand
    assert found["tflops_per_gpu"] == pytest.approx(
        flops_per_step / found["step_seconds"] / found["best"]["data"] / 1e12
    )


def test_budget_answers_by_each_law() -> None:
    found = json.loads(json.dumps(budget(5.76e23), allow_nan=False))
    rows = {row["law"]: row for row in found["laws"]}
    assert rows["chinchilla-1"]["parameters"] == pytest.approx(67e9, rel=0.05)  # 2203.15556, Table 3
    assert rows["chinchilla-3"]["loss"] == pytest.approx(1.93, abs=0.01)
    assert rows["kaplan"]["loss"] is None
    assert all({"law", "parameters", "tokens", "loss", "interval"} <= set(row) for row in found["laws"])


@pytest.mark.usefixtures("told")
def test_hours_buy_the_steps_that_the_best_layout_takes_in_them(tmp_path: Path) -> None:
    asked = load_recipe("quickstart", ["budget.hours=0.01"])[0]
    artifact = plan(asked, tmp_path / "plan", None)
    facts, decided = artifact.facts, chosen(artifact)
    assert facts["steps"] == int(36 / facts["step_seconds"]) >= 200
    assert facts["budget"] == {"hours": 0.01, "flops": decided.budget.flops}
    assert facts["flops"] <= decided.budget.flops == pytest.approx(36 / facts["step_seconds"] * facts["flops_per_step"])
    assert decided.budget.hours is None
    assert decided.train.tokens == facts["tokens"]
    assert [row["tokens"] for row in facts["shapes"] if row["chosen"]] == [facts["tokens"]]
    assert Recipe.model_validate(decided.model_dump()) == decided


@pytest.mark.usefixtures("told")
def test_hours_buy_a_given_model_its_tokens_and_too_few_are_refused(tmp_path: Path) -> None:
    shape = ("train.tokens=null", "model.num_layers=1", "model.hidden_size=32", "model.num_heads=2")
    facts = plan(load_recipe("quickstart", ["budget.hours=0.01", *shape])[0], tmp_path / "plan", None).facts
    assert facts["steps"] == int(36 / facts["step_seconds"])
    with pytest.raises(RecipeError, match="does not pay for a single step"):
        plan(load_recipe("quickstart", ["budget.hours=1e-6", *shape])[0], tmp_path / "few", None)


@pytest.mark.usefixtures("told")
def test_a_loss_above_that_of_an_even_guess_is_no_forecast(tmp_path: Path) -> None:
    """ln 4096 = 8.3 nats; the formula gives 12.7 at 2e13 FLOPs, and 7.3 at 1e15."""
    facts = plan(quickstart(), tmp_path / "plan", None).facts
    assert facts["predicted_loss"] is None
    assert {row["loss"] for row in facts["laws"]} == {None}
    assert "8.3" in next(row["loss_note"] for row in facts["laws"] if row["law"] == "chinchilla-3")
    more = plan(quickstart("budget.flops=1e15"), tmp_path / "more", None).facts
    assert more["predicted_loss"] == pytest.approx(7.34, abs=0.01)
    assert next(row["loss_note"] for row in more["laws"] if row["law"] == "chinchilla-3") is None


def test_a_training_of_years_is_refused_in_words_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q: 1.0)  # 2e12 FLOP/s
    asked = load_recipe("gpt2-124m", ["cluster={name: local}"])[0]
    with pytest.raises(ResourceError, match=r"at least [\d.]+ years on this machine.*budget\.hours.*--yes"):
        check(asked)
    check(asked, yes=True)
    check(load_recipe("gpt2-124m", ["cluster={name: local}", "budget.hours=1000"])[0])
    check(load_recipe("gpt2-124m", ["cluster={name: local}", "train.tokens=1e6", "train.warmup_tokens=0"])[0])
    with pytest.raises(ResourceError, match=r"about 25\.0 h on this machine"):
        refuse_unasked_length(asked, 25 * 3600)
    refuse_unasked_length(asked, 23 * 3600)
