"""A rank that computes 1.3 times as long as the others is named within 20 steps, once, and by no other's waiting."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from megalith.model.attention import CoreAttention
from megalith.parallel import DistributedModel
from megalith.training.slow_ranks import FIRST_STEPS, WINDOW, SlowRanks
from tests.parallel.processes import start, wait
from tests.training import forked, small

SLOW, STEPS = 1, 22
PIECE_SECONDS = 0.05
"""Each rank's piece sleeps so long, which is much more than it computes: a loaded machine makes no rank slow."""


def train_with_a_slow_rank(rank: int, task_json: str, slow: int, in_attention: bool) -> None:
    """Train with pieces that take equally long on every rank but one."""
    times = 1.4 if rank == slow else 1.0
    if in_attention:
        attend = CoreAttention.forward

        def slowly(module: CoreAttention, *arguments: Any) -> Tensor:
            time.sleep(PIECE_SECONDS * times)
            return attend(module, *arguments)

        CoreAttention.forward = slowly  # type: ignore[method-assign]  # in a process of its own
    else:
        compute = DistributedModel.forward_backward

        def longer(model: DistributedModel, *arguments: Any) -> Tensor:
            time.sleep(4 * PIECE_SECONDS * times)
            return compute(model, *arguments)

        DistributedModel.forward_backward = longer  # type: ignore[method-assign]
    forked._train(rank, [task_json], None, False)


def named(directory: Path, layout: dict[str, Any], slow: int = SLOW) -> list[dict[str, Any]]:
    """The lines of the log in which a rank is named."""
    train = {"batch_ramp": None, "global_batch_size": 4, "tokens": 4 * 16 * STEPS}
    seldom = {"checkpoint_interval": 100, "validation_interval": 100}
    recipe = small.small_recipe(parallel=layout, model={"dropout": 0.0}, **train, **seldom)
    task = forked.task_of(directory / "run", recipe)
    in_attention = "data" not in layout
    ranks = start(
        forked.world_of(recipe), str(task.logs), train_with_a_slow_rank, task.model_dump_json(), slow, in_attention
    )
    wait(ranks)
    lines = [json.loads(line) for line in (task.logs / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "slow_rank" in line]


@pytest.mark.parametrize("layout", [{"data": 2}, {"tensor": 2}, {"pipeline": 2}, {"context": 2}], ids=str)
def test_a_slow_rank_is_named_once_within_twenty_steps(tmp_path: Path, layout: dict[str, Any]) -> None:
    (line,) = named(tmp_path, layout)
    assert line["slow_rank"] == SLOW
    assert line["step"] <= 20
    assert line["times_as_long"] == pytest.approx(1.4, abs=0.25)


def rounds(*ranks: float) -> list[dict[int, float]]:
    slow = SlowRanks()
    return [slow.add(ranks) for _ in range(30)]


def test_of_ranks_that_are_alike_none_is_named_and_of_two_the_slower_one() -> None:
    assert not any(rounds(1.0, 1.05, 0.95, 1.1))
    assert not any(rounds(1.0))
    found = rounds(1.3, 1.0)
    assert [number for number, new in enumerate(found, start=1) if new] == [FIRST_STEPS + WINDOW]
    assert FIRST_STEPS + WINDOW <= 20
    assert found[FIRST_STEPS + WINDOW - 1] == {0: pytest.approx(1.3)}


def test_a_few_slow_steps_make_no_slow_rank() -> None:
    slow = SlowRanks()
    assert not any(slow.add([5.0 if step % 3 == 0 else 1.0, 1.0, 1.0]) for step in range(60))


def test_a_step_in_which_a_rank_measured_nothing_is_left_out() -> None:
    assert not any(rounds(0.0, 1.0, 2.0))
