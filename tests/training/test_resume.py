"""A run that is taken up goes on as if nothing had been: in its own layout to the bit, in another to rounding."""

import contextlib
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp

from megalith.recipe import Recipe
from megalith.training.task import TrainTask
from tests.training import forked
from tests.training.small import small_recipe

SEQUENCES, LENGTH = 8, 16
STEPS, FEW_STEPS = 80, 12
Layout = dict[str, Any]

ALONE: Layout = {}
TENSOR: Layout = {"tensor": 2}
PIPELINE: Layout = {"pipeline": 2}
ZERO_3: Layout = {"data": 2, "zero": 3}
INTERLEAVED: Layout = {"pipeline": 2, "virtual_stages": 2, "schedule": "interleaved-1f1b"}
BARE_ENDS: Layout = INTERLEAVED | {"virtual_stages": 3}  # six stages for four layers
TENSOR_PIPELINE: Layout = {"tensor": 2, "pipeline": 2}
TENSOR_DATA: Layout = {"tensor": 2, "data": 2}
SEQUENCE: Layout = {"tensor": 2, "data": 2, "sequence_parallel": True}
PIPELINE_ZERO_1: Layout = {"pipeline": 2, "data": 2, "zero": 1}

LAYOUTS: dict[str, Layout] = {
    "alone": ALONE,
    "tensor": TENSOR,
    "pipeline": PIPELINE,
    "zero-3": ZERO_3,
    "interleaved": INTERLEAVED,
    "bare-ends": BARE_ENDS,
    "tensor-pipeline": TENSOR_PIPELINE,
    "sequence": SEQUENCE,
}
SHORT = ("alone", "bare-ends", "zero-3")


def recipe_of(layout: Layout, model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    settings = {"tokens": STEPS * SEQUENCES * LENGTH, "batch_ramp": None, "micro_batch_size": 1} | train
    return small_recipe(model={"num_layers": 4} | (model or {}), parallel=layout, **settings)


# killed, in one layout


def kill_and_resume(task: TrainTask, kills: int, seed: int) -> None:
    """Kill every rank with signal 9 so many times, in a save and at any moment in turn; then let the run end."""
    rng = random.Random(seed)
    for number in range(kills):
        # a step's save waits for the one before: three steps on, there is a checkpoint to go on from
        began, until = time.time_ns(), _steps_logged(task) + rng.randint(3, 4)
        ranks = forked.start([task])
        if number % 2:
            _wait(lambda since=began: _is_saving(task, since), ranks)
            time.sleep(rng.uniform(0, 0.005))
        else:
            _wait(lambda until=until: _steps_logged(task) >= until, ranks)
            time.sleep(rng.uniform(0, 0.02))
        for process in ranks.processes:
            process.kill()
        for process in ranks.processes:
            process.join()
        assert any(process.exitcode == -signal.SIGKILL for process in ranks.processes), "it had ended before"
    assert any(task.checkpoints.glob("step-*[0-9]"))
    forked.train([task])


def steps_in(task: TrainTask) -> int:
    return (task.recipe.train.tokens or 0) // (SEQUENCES * LENGTH)


def _steps_logged(task: TrainTask) -> int:
    log = task.logs / "metrics.jsonl"
    return log.read_bytes().count(b"learning_rate") if log.is_file() else 0


def _is_saving(task: TrainTask, since: int) -> bool:
    """True while a checkpoint is being written that was begun after this time."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_mtime_ns > since for path in task.checkpoints.glob("*.unfinished"))
    return False


def _wait(condition: Callable[[], bool], ranks: mp.ProcessContext) -> None:
    end = time.monotonic() + 300
    while not condition() and all(process.is_alive() for process in ranks.processes):
        assert time.monotonic() < end
        time.sleep(0.0005)


def check_killed(directory: Path, recipe: Recipe, kills: int) -> None:
    """`state.json` names the digests of history, weights and moments: equal files are equal runs."""
    whole, broken = (forked.task_of(directory / name, recipe) for name in ("whole", "broken"))
    forked.train([whole])
    kill_and_resume(broken, kills, seed=kills)
    assert len(forked.steps_of(broken)) == steps_in(broken)
    assert forked.steps_of(broken) == forked.steps_of(whole)
    assert forked.files_of(broken) == forked.files_of(whole)


def test_a_run_killed_three_times_ends_with_the_very_losses_and_bytes(tmp_path: Path) -> None:
    recipe = recipe_of(ALONE, tokens=FEW_STEPS * SEQUENCES * LENGTH, checkpoint_interval=1, precision="bf16")
    check_killed(tmp_path, recipe, 3)


def test_a_tensor_parallel_run_killed_twice_ends_with_the_very_losses_and_bytes(tmp_path: Path) -> None:
    tokens = FEW_STEPS * SEQUENCES * LENGTH
    recipe = recipe_of(TENSOR, {"num_layers": 1}, tokens=tokens, micro_batch_size=4, checkpoint_interval=1)
    check_killed(tmp_path, recipe, 2)


def test_the_loss_scale_of_fp16_goes_on_where_it_was(tmp_path: Path) -> None:
    recipe = recipe_of(ALONE, checkpoint_interval=100, precision="fp16", clip_norm=None)
    whole, broken = (forked.task_of(tmp_path / name, recipe) for name in ("whole", "broken"))
    forked.train([whole], steps=8)
    for steps in (3, 5):
        forked.train([broken], steps=steps)
    (state,) = {(task.checkpoints / "step-00000008/state.json").read_text() for task in (whole, broken)}
    scale = json.loads(state)["sealed"]["extras"]["loss_scale"]
    assert scale["grows"]
    assert scale["since_overflow"] == 8  # of both starts together
    assert forked.steps_of(broken) == forked.steps_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", [ALONE, TENSOR_DATA, PIPELINE_ZERO_1], ids=str)
def test_a_run_killed_twenty_times_ends_with_the_very_losses_and_bytes(
    tmp_path: Path, layout: Layout, precision: str
) -> None:
    check_killed(tmp_path, recipe_of(layout, checkpoint_interval=1, precision=precision), 20)


# taken up in another layout

SAVED_AT, THEN = 3, 3


def check_pairs(directory: Path, layouts: dict[str, Layout], rel: float, *, fp64: bool, **settings: Any) -> None:
    """Each layout's first steps, taken up in each layout, give what one process gives without a break."""
    recipes = {name: recipe_of(layout, **settings) for name, layout in layouts.items()}
    whole = forked.task_of(directory / "whole", recipe_of(ALONE, **settings))
    forked.train([whole], steps=SAVED_AT + THEN, fp64=fp64)
    expected = forked.steps_of(whole)
    begun = {name: forked.task_of(directory / name, recipe) for name, recipe in recipes.items()}
    for tasks in _by_world(list(begun.values())):
        forked.train(tasks, steps=SAVED_AT, fp64=fp64)
    pairs = {}
    for source, task in begun.items():
        for name, recipe in recipes.items():
            pairs[source, name] = forked.task_of(directory / f"{source} to {name}", recipe)
            shutil.copytree(task.checkpoints, pairs[source, name].checkpoints)
    for tasks in _by_world(list(pairs.values())):
        forked.train(tasks, steps=THEN, fp64=fp64)
    for pair, task in pairs.items():
        found = forked.steps_of(task)
        assert [step["step"] for step in found] == list(range(1, SAVED_AT + THEN + 1)), pair
        for key in ("loss", "gradient_norm"):
            assert [step[key] for step in found] == pytest.approx([step[key] for step in expected], rel=rel), pair


def _by_world(tasks: list[TrainTask]) -> list[list[TrainTask]]:
    worlds = sorted({forked.world_of(task.recipe) for task in tasks})
    return [[task for task in tasks if forked.world_of(task.recipe) == world] for world in worlds]


def test_what_one_layout_has_begun_another_ends(tmp_path: Path) -> None:
    """Also with dropout, which pipeline stages and data-parallel ranks draw alike. fp64, less what Adam makes of it."""
    check_pairs(tmp_path, {name: LAYOUTS[name] for name in SHORT}, 1e-9, fp64=True)


def test_heads_of_keys_that_ranks_share_go_from_layout_to_layout(tmp_path: Path) -> None:
    model = {"num_layers": 1, "num_kv_heads": 1, "query_key_norm": "whole", "qkv_bias": True, "dropout": 0.0}
    check_pairs(tmp_path, {"alone": ALONE, "tensor": TENSOR}, 1e-9, fp64=True, model=model)


@pytest.mark.slow
def test_what_any_layout_has_begun_any_other_ends(tmp_path: Path) -> None:
    check_pairs(tmp_path, LAYOUTS, 1e-9, fp64=True, model={"dropout": 0.0})


@pytest.mark.slow
def test_in_bf16_what_any_layout_has_begun_any_other_ends(tmp_path: Path) -> None:
    """bf16 keeps 8 bits: products are rounded by 0.4 %, and partial sums in another order; errors partly cancel."""
    check_pairs(tmp_path, LAYOUTS, 2e-2, fp64=False, model={"dropout": 0.0}, precision="bf16")
