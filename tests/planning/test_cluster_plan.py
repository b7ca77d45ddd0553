"""The plan for a cluster that this machine is not: what `plan layout` finds, as an artifact that ranks take up."""

import math
from pathlib import Path

import pytest

from megalith.artifacts import Artifact
from megalith.errors import RecipeError
from megalith.job import Job
from megalith.planning.cluster_plan import is_elsewhere, with_open_layout
from megalith.planning.performance import predict_step
from megalith.planning.plan import plan
from megalith.planning.search import cluster_layout, kept
from megalith.recipe import Recipe, load_recipe
from megalith.topology import describe, layout_of, refuse_planned_settings
from tests.accelerators import H100, simulate
from tests.planning.test_plan import tokens


def opened(name: str, *overrides: str) -> Recipe:
    return with_open_layout(*load_recipe(name, overrides))


def decided(artifact: Artifact) -> Recipe:
    return Recipe.model_validate_json((artifact.path / "recipe.json").read_text())


def test_the_plan_is_the_one_that_the_search_finds(tmp_path: Path) -> None:
    asked = opened("llama-8b", "cluster=dgx-h100", "cluster.nodes=8")
    artifact = plan(asked, tmp_path / "plan", None)
    found = cluster_layout(asked)
    chosen, facts = decided(artifact), artifact.facts
    assert {name: getattr(chosen.parallel, name) for name in ("tensor", "pipeline", "data", "zero", "recompute")} == {
        name: found["best"][name] for name in ("tensor", "pipeline", "data", "zero", "recompute")
    }
    assert chosen.train.micro_batch_size == found["best"]["micro_batch_size"]
    assert chosen.train.precision == "bf16"
    assert facts["step_seconds"] == found["step_seconds"]
    job = Job.of(chosen, describe(asked.cluster))
    assert facts["step_seconds"] == pytest.approx(predict_step(job, exact=True).seconds)
    assert job.accelerators == 64
    assert facts["steps"] == math.ceil(15e12 / (512 * 8192))
    assert facts["seconds"] >= facts["steps"] * facts["step_seconds"]
    assert facts["machine"]["accelerators"]["count"] == 64
    assert facts["machine"]["peak_flops_per_second"] == pytest.approx(64 * 989.5e12)


LONG = ("model.sequence_length=131072", "train.global_batch_size=32")


def test_long_sequences_are_shared_by_ranks_as_they_can_be_trained(tmp_path: Path) -> None:
    chosen = decided(plan(opened("llama-8b", "cluster=dgx-h100", "cluster.nodes=1", *LONG), tmp_path / "plan", None))
    assert (chosen.parallel.context or 1) > 1
    refuse_planned_settings(chosen.model, chosen.parallel, chosen.train)
    layout = layout_of(chosen.parallel)
    assert layout.world == 8
    assert chosen.model.heads % (layout.tensor * layout.context) == 0


def test_what_only_a_plan_may_share_is_planned_whole_for_training(tmp_path: Path) -> None:
    """A run would be refused after it was submitted."""
    asked = opened("llama-8b", "cluster=dgx-h100", "cluster.nodes=1", "parallel.context_method=ring", *LONG)
    assert cluster_layout(asked)["best"]["context"] > 1
    chosen = decided(plan(asked, tmp_path / "plan", None))
    refuse_planned_settings(chosen.model, chosen.parallel, chosen.train)
    assert layout_of(chosen.parallel).world == 8


def test_a_recipe_on_its_own_cluster_keeps_its_layout(tmp_path: Path) -> None:
    """MT-NLG's, as the paper has it: 8 × 35 × 12 on 420 nodes."""
    chosen = decided(plan(opened("mt-nlg-530b"), tmp_path / "plan", None))
    assert (chosen.parallel.tensor, chosen.parallel.pipeline, chosen.parallel.data) == (8, 35, 12)
    assert (chosen.parallel.schedule, chosen.parallel.recompute, chosen.train.micro_batch_size) == ("1f1b", "full", 1)


def test_on_other_machines_its_layout_is_open_but_for_what_overrides_say() -> None:
    other = opened("mt-nlg-530b", "cluster=dgx-h100", "cluster.nodes=128", "parallel.tensor=4")
    assert kept(other, {}, written=True) == {"parallel.tensor"} | {"train.micro_batch_size"}
    assert other.train.micro_batch_size is None
    assert (other.parallel.pipeline, other.parallel.data, other.parallel.recompute) == (None, None, "none")
    own = load_recipe("mt-nlg-530b", ["cluster.nodes=420"])
    assert with_open_layout(*own).parallel.pipeline is None
    assert opened("mt-nlg-530b", "train.learning_rate=1e-5").parallel.pipeline == 35


def test_the_plan_stands_when_tokens_come_and_when_it_is_read_on_a_node_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = opened("gpt2-124m", "cluster=dgx-h100", "train.tokens=1e9", "train.warmup_tokens=0",
                   "train.decay_tokens=null")  # fmt: skip
    assert not plan(asked, tmp_path / "plan", None).reused
    assert plan(asked, tmp_path / "plan", tokens(10**6)).reused
    simulate(monkeypatch, H100, 8)
    assert not is_elsewhere(asked)
    assert plan(asked, tmp_path / "plan", tokens(10**6)).reused
    assert plan(asked, tmp_path / "other", tokens(10**6)).facts["machine"]["cpu"]  # of this machine, and measured


def test_hours_buy_the_steps_that_the_predicted_one_takes(tmp_path: Path) -> None:
    asked = opened("quickstart", "cluster=dgx-a100", "budget.hours=0.5")
    facts = plan(asked, tmp_path / "plan", None).facts
    assert facts["steps"] == int(1800 / facts["step_seconds"])


def test_a_cluster_that_is_not_known_is_refused() -> None:
    with pytest.raises(RecipeError, match="cluster 'selena' is not known"):
        is_elsewhere(load_recipe("quickstart", ["cluster=selena"])[0])


def test_a_cluster_may_be_named_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("name: own\nabout: x\ncluster: dgx-h100\nmodel: {num_layers: 2, hidden_size: 64, num_heads: 2}\n"
                      "train: {tokens: 1000000}\n")  # fmt: skip
    assert load_recipe(recipe)[0].cluster.name == "dgx-h100"
    assert load_recipe(recipe, ["cluster.nodes=4"])[0].cluster.nodes == 4
    assert load_recipe("mt-nlg-530b", ["cluster=dgx-h100"])[0].cluster.nodes == 1  # 420 are Selene's
