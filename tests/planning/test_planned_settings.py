"""Means of other software that the planner is told of: fp8, sends beside products, CUDA graphs."""

import pytest

from megalith import plan_explain, plan_layout
from megalith.errors import RecipeError, UnsupportedError

H100 = ["cluster=dgx-h100", "parallel.tensor=8", "parallel.pipeline=1", "parallel.data=1", "train.micro_batch_size=1",
        "train.global_batch_size=64", "parallel.sequence_parallel=true"]  # fmt: skip


def seconds(*overrides: str) -> float:
    return float(plan_explain("llama-8b", overrides=[*H100, *overrides])["layouts"][0]["step_seconds"])


def test_each_means_takes_its_part_of_the_step() -> None:
    plain = seconds()
    by_setting = {
        setting: seconds(setting)
        for setting in ("train.fp8=tensor", "train.fp8=block", "parallel.tensor_overlap=true", "train.cuda_graphs=true")
    }
    assert all(each < plain for each in by_setting.values())
    assert by_setting["train.fp8=tensor"] < by_setting["train.fp8=block"]  # Hopper scales blocks beside its products
    assert plain - seconds("parallel.tensor_overlap=true", "train.cuda_graphs=true") > max(
        plain - by_setting["parallel.tensor_overlap=true"], plain - by_setting["train.cuda_graphs=true"]
    )


def test_a_step_in_fp8_is_taken_apart_from_its_own_peak() -> None:
    ideal = {
        setting: plan_explain("llama-8b", overrides=[*H100, *setting])["layouts"][0]["parts"][0]["seconds"]
        for setting in ((), ("train.fp8=tensor",))
    }
    assert ideal[("train.fp8=tensor",)] == pytest.approx(ideal[()] / 2)
    assert all(
        part["seconds"] >= 0
        for part in plan_explain("llama-8b", overrides=[*H100, "train.fp8=tensor"])["layouts"][0]["parts"]
    )


def test_the_search_takes_them_and_says_so() -> None:
    found = plan_layout("llama-8b", overrides=["cluster=dgx-h100", "train.fp8=mx", "train.cuda_graphs=true"])
    assert any("fp8" in each for each in found["notes"]) and any("launched together" in each for each in found["notes"])


def test_fp8_is_refused_where_there_is_none() -> None:
    with pytest.raises(RecipeError, match="A100-SXM-80GB is not known to have fp8"):
        plan_layout("llama-8b", overrides=["cluster=selene", "train.fp8=tensor"])


@pytest.mark.parametrize("setting", ["train.fp8=tensor", "train.cuda_graphs=true", "parallel.offload_optimizer=true"])
def test_this_machine_is_not_measured_as_if_it_were_not_asked(setting: str) -> None:
    with pytest.raises(UnsupportedError, match="planned, not yet trained"):
        plan_layout("quickstart", overrides=[setting])
