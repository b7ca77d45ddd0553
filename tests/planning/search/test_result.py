"""`plan layout` for a cluster by the shipped models: the issue's cases, and requests that cannot be."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from megalith.errors import InputError, RecipeError, ResourceError, UnsupportedError
from megalith.planning.layout import layout
from megalith.planning.search import Objective, kept
from megalith.recipe import Recipe, load_recipe
from megalith.topology import Layout, check_layout, describe
from tests.conftest import ROOT

KEYS = {"tensor", "pipeline", "data", "micro_batch_size", "virtual_stages", "schedule", "recompute",
        "sequence_parallel", "zero"}  # fmt: skip


def recipe(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, overrides)[0]


def small(*overrides: str) -> Recipe:
    """8.3B on four nodes: a small space."""
    return recipe("gpt2-8.3b", "cluster.name=dgx-a100", "cluster.nodes=4", "parallel={}", "train.micro_batch_size=null",
                  "train.global_batch_size=128", *overrides)  # fmt: skip


def with_nodes(asked: Recipe, nodes: int) -> Recipe:
    return asked.model_copy(update={"cluster": asked.cluster.model_copy(update={"nodes": nodes})})


@pytest.fixture(scope="module")
def mt_nlg() -> dict[str, Any]:
    return layout(recipe("mt-nlg-530b", "cluster.nodes=280"))


def row(found: dict[str, Any], tensor: int, pipeline: int, data: int, kind: str = "layout") -> dict[str, Any]:
    return next(
        row
        for row in found["runners_up"]
        if (row["tensor"], row["pipeline"], row["data"], row["kind"]) == (tensor, pipeline, data, kind)
    )


def test_530b_on_2240_gpus_gets_mt_nlgs_layout_or_a_better_one_with_the_reason(mt_nlg: dict[str, Any]) -> None:
    best = mt_nlg["best"]
    assert set(best) >= KEYS
    assert best["tensor"] * best["pipeline"] * best["data"] == 2240
    assert mt_nlg["accelerators"] == 2240
    if (best["tensor"], best["pipeline"], best["data"]) != (8, 35, 8):
        theirs = row(mt_nlg, 8, 35, 8)
        assert theirs["step_seconds"] > mt_nlg["step_seconds"] * 0.98
        assert "slower" in theirs["why"] or "as fast" in theirs["why"]
    own = row(mt_nlg, 8, 35, 8, kind="recipe")  # as the recipe has it: 1F1B, full recomputation
    assert own["step_seconds"] > mt_nlg["step_seconds"]
    assert "recomputation" in own["why"]
    assert best["tensor"] <= 8  # inside a node, which nothing but the costs asks for


def test_the_full_space_is_considered_in_little_time(mt_nlg: dict[str, Any]) -> None:
    """It takes 2 s of a core because few are timed: what is cut early is what this guards."""
    found = layout(recipe("mt-nlg-530b", "cluster.nodes=280"))
    assert found["candidates_considered"] > 50_000
    assert found["candidates_timed"] < found["candidates_considered"] / 15
    assert found["best"] == mt_nlg["best"]


def test_the_winner_is_one_that_check_layout_takes_and_that_fits(mt_nlg: dict[str, Any]) -> None:
    best, asked = mt_nlg["best"], recipe("mt-nlg-530b", "cluster.nodes=280")
    parallel = asked.parallel.model_copy(update={key: best[key] for key in best if key != "micro_batch_size"})
    train = asked.train.model_copy(update={"micro_batch_size": best["micro_batch_size"]})
    axes = Layout(best["tensor"], best["pipeline"], best["data"])
    check_layout(describe(asked.cluster), axes, asked.model, parallel, train)
    assert mt_nlg["memory_bytes"] <= mt_nlg["memory_of_accelerator_bytes"]
    assert sum(mt_nlg["parts"].values()) == pytest.approx(mt_nlg["step_seconds"])
    low, high = mt_nlg["interval"]
    assert low < mt_nlg["step_seconds"] < high


def test_every_runner_up_says_why_it_lost(mt_nlg: dict[str, Any]) -> None:
    assert len(mt_nlg["runners_up"]) > 10
    for runner_up in mt_nlg["runners_up"]:
        assert runner_up["why"]
        assert ("memory over" in runner_up["why"]) == (not runner_up["fits"])
    changed = [runner_up for runner_up in mt_nlg["runners_up"] if runner_up["kind"] == "change"]
    assert {runner_up["schedule"] for runner_up in changed} >= {"gpipe", "1f1b"}
    assert {runner_up["recompute"] for runner_up in changed} == {"none", "selective", "full"}
    assert {runner_up["zero"] for runner_up in changed} == {0, 1, 2, 3}


def test_overrides_are_kept_and_the_file_is_searched_anew_unless_it_is_to_be_kept() -> None:
    loaded = load_recipe("mt-nlg-530b", ["parallel.tensor=4", "cluster.nodes=280"])
    assert kept(*loaded, written=False) == {"parallel.tensor"}
    assert kept(*loaded, written=True) == {
        "parallel.tensor", "parallel.pipeline", "parallel.data", "parallel.schedule", "parallel.recompute",
        "train.micro_batch_size",
    }  # fmt: skip
    whole = load_recipe("mt-nlg-530b", ["parallel={tensor: 4, zero: 1}"])
    assert kept(*whole, written=False) == {"parallel.tensor", "parallel.zero"}


def test_what_is_kept_is_in_the_answer() -> None:
    asked = small("parallel.tensor=2", "parallel.recompute=full", "parallel.zero=3")
    best = layout(asked, keep={"parallel.tensor", "parallel.recompute", "parallel.zero"})["best"]
    assert (best["tensor"], best["recompute"], best["zero"]) == (2, "full", 3)


def test_for_memory_the_least_is_held_and_for_time_the_least_is_taken() -> None:
    asked = recipe("gpt2-2.5b", "cluster.name=dgx-a100", "parallel={}", "train.global_batch_size=32")
    by_time, by_memory = layout(asked), layout(asked, objective="memory")
    assert by_memory["memory_bytes"] < by_time["memory_bytes"]
    assert by_memory["step_seconds"] > by_time["step_seconds"]


def test_the_fewest_gpus_within_a_deadline_are_one_node_short_of_not_making_it() -> None:
    asked = small("train.tokens=2_000_000_000")
    found = layout(asked, objective="gpus", deadline_days=1.0)
    assert found["run"]["days"] <= 1.0
    with pytest.raises((ResourceError, RecipeError)):
        layout(with_nodes(asked, found["nodes"] - 1), deadline_days=1.0)
    with pytest.raises(RecipeError, match="--deadline"):
        layout(asked, objective="gpus")


def test_a_deadline_that_cannot_be_met_gets_the_nodes_that_would() -> None:
    asked = small("train.tokens=20_000_000_000")
    days = layout(asked)["run"]["days"]
    with pytest.raises(ResourceError, match=r"cluster\.nodes=(\d+)") as refused:
        layout(asked, deadline_days=0.6 * days)
    assert f"{days:.1f} days" in str(refused.value)


@pytest.mark.parametrize("objective", ["time", "gpus"])
def test_no_time_at_all_is_no_deadline(objective: Objective) -> None:
    with pytest.raises(RecipeError, match="within 0 days"):
        layout(small(), objective=objective, deadline_days=0.0)


def test_a_deadline_that_no_number_of_nodes_meets_gets_the_days_that_it_takes() -> None:
    asked = small("cluster.name=jeanzay", "train.tokens=20_000_000_000")
    days = layout(asked)["run"]["days"]
    with pytest.raises(ResourceError, match="no number of jeanzay's nodes") as refused:
        layout(asked, deadline_days=0.01)
    assert f"--deadline {math.ceil(days)}" in str(refused.value)
    with pytest.raises(ResourceError, match=r"no number of jeanzay's nodes ends this run within 0\.01 days"):
        layout(asked, objective="gpus", deadline_days=0.01)


def test_a_deadline_counts_the_ramp() -> None:
    """A time between those of the run with and without its ramp is too short for the one, and no reason to refuse the
    step."""
    ramp = "train.batch_ramp={start: 4, increment: 4, tokens: 1_000_000_000}"
    with_ramp, without = small("train.tokens=2_000_000_000", ramp), small("train.tokens=2_000_000_000")
    long, short = (layout(asked)["run"]["days"] for asked in (with_ramp, without))
    assert long > 1.05 * short
    layout(without, deadline_days=(long + short) / 2)
    with pytest.raises(ResourceError):
        layout(with_ramp, deadline_days=(long + short) / 2)
    found = layout(with_ramp, objective="gpus", deadline_days=(long + short) / 2)
    assert found["run"]["days"] <= (long + short) / 2


def test_what_does_not_fit_gets_the_reason_and_the_fewest_nodes_that_do() -> None:
    asked = recipe("gpt3-175b", "cluster.name=selene", "cluster.nodes=2", "parallel={}")
    with pytest.raises(ResourceError, match=r"cluster\.nodes=(\d+)") as refused:
        layout(asked)
    said = str(refused.value)
    assert "too much" in said
    assert "weights" in said or "optimizer" in said
    nodes = int(said.split("cluster.nodes=")[1].split(",")[0])
    enough = layout(with_nodes(asked, nodes))
    assert enough["memory_bytes"] <= enough["memory_of_accelerator_bytes"]
    with pytest.raises(ResourceError):
        layout(with_nodes(asked, nodes - 1))


def test_a_setting_that_is_in_the_way_is_named() -> None:
    asked = recipe("gpt3-175b", "cluster.name=selene", "cluster.nodes=16", "train.global_batch_size=1536",
                   "parallel={data: 128, zero: 0}")  # fmt: skip
    with pytest.raises(ResourceError, match=r"parallel\.(data|zero)=\d+ in place of"):
        layout(asked, keep={"parallel.data", "parallel.zero"})


def test_a_setting_that_is_better_left_out_is_named_so() -> None:
    with pytest.raises(RecipeError, match=r"Leave out parallel\.zero_shard=5"):
        layout(small("parallel={zero: 1, zero_shard: 5}", "cluster.nodes=1"), keep={"parallel.zero_shard"})


def test_numbers_of_gpus_that_divide_nothing_get_their_neighbours() -> None:
    """97 nodes: neither the layers nor the heads nor the batch of 128 have a 97."""
    with pytest.raises(RecipeError, match=r"cluster\.nodes=\d+") as refused:
        layout(small("cluster.nodes=97"))
    assert "776 accelerators" in str(refused.value)


def test_a_schedule_of_ones_own_is_not_searched_with() -> None:
    asked = small("parallel={schedule_file: mine.csv}")
    with pytest.raises(UnsupportedError, match="schedule_file"):
        layout(asked, keep={"parallel.schedule_file"})


def test_prices_and_deadlines_are_for_clusters() -> None:
    with pytest.raises(UnsupportedError, match=r"cluster\.name"):
        layout(recipe("quickstart"), price=2.0)


def test_a_model_without_a_shape_is_given_the_one_for_its_budget() -> None:
    asked = recipe("quickstart", "budget.flops=1e20", "cluster.name=dgx-a100", "train.global_batch_size=64")
    found = layout(asked)
    assert found["run"]["tokens"] > 1e8
    assert found["accelerators"] == 8


def test_the_best_is_sure_to_fit_and_a_faster_one_that_may_not_is_said_to() -> None:
    found = layout(recipe("llama-8b", "cluster=rtx-4090", "model.sequence_length=4096", "train.global_batch_size=512"))
    assert found["memory_interval"][1] <= found["memory_of_accelerator_bytes"]
    tempting = [row for row in found["runners_up"] if "may hold up to" in row["why"] and "faster" in row["why"]]
    assert tempting and all(row["step_seconds"] < found["step_seconds"] for row in tempting)


def test_what_the_fullest_gpu_holds_adds_up(mt_nlg: dict[str, Any]) -> None:
    assert sum(mt_nlg["memory"].values()) == pytest.approx(mt_nlg["memory_bytes"])


def test_rows_are_compared_by_one_form_and_what_was_played_says_so(mt_nlg: dict[str, Any]) -> None:
    closed = mt_nlg["closed_step_seconds"]
    played = [one for one in mt_nlg["runners_up"] if "when played; by the closed form" in one["why"]]
    assert played
    for one in played:
        apart = one["step_seconds"] / closed - 1
        by_closed = one["why"].partition("by the closed form ")[2]
        said = f"{apart:.1%} slower" if apart > 0 else f"{-apart:.1%} faster"
        assert by_closed.startswith(said) or (by_closed.startswith("as fast") and abs(apart) < 0.005)


def test_the_least_memory_in_time_counts_the_ramp(mt_nlg: dict[str, Any]) -> None:
    deadline = mt_nlg["run"]["days"] + 1  # the fastest is in time, so nothing that holds more is the answer
    found = layout(recipe("mt-nlg-530b", "cluster.nodes=280"), objective="memory", deadline_days=deadline)
    assert found["run"]["days"] <= deadline
    assert found["memory_bytes"] <= mt_nlg["memory_bytes"] * 1.001
    assert any("more; " in row["why"] and row["why"].startswith("holds ") for row in found["runners_up"])


def test_tensor_groups_across_nodes_are_said_to_be_unmeasured(mt_nlg: dict[str, Any]) -> None:
    wide = layout(recipe("mt-nlg-530b", "cluster.nodes=280", "parallel.tensor=16"), keep=["parallel.tensor"])
    assert any("cross nodes of 8" in note for note in wide["notes"])
    assert not any("cross nodes" in note for note in mt_nlg["notes"])


def test_constants_of_a_file_take_the_place_of_the_shipped_ones(mt_nlg: dict[str, Any], tmp_path: Path) -> None:
    shipped = json.loads((ROOT / "megalith/planning/constants/published.json").read_text())
    (a100,) = (one for one in shipped["sets"] if one["generation"] == "a100")
    a100["constants"]["gemm"]["value"] *= 0.5
    (tmp_path / "slow.json").write_text(json.dumps({"sets": [a100]}))
    asked = recipe("mt-nlg-530b", "cluster.nodes=280")
    slow = layout(asked, constants=tmp_path / "slow.json")
    assert slow["step_seconds"] > 1.4 * mt_nlg["step_seconds"]
    with pytest.raises(InputError, match="no constants of h100"):
        layout(recipe("gpt2-8.3b", "cluster.name=dgx-h100"), constants=tmp_path / "slow.json")
