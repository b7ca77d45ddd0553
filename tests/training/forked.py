"""The real loop on forked ranks: what `worker.work` does, without the seconds that it takes to start Python."""

import json
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from megalith.parallel import Mesh, compute_deterministically
from megalith.recipe import Recipe
from megalith.topology import layout_of
from megalith.training import loop
from megalith.training.task import Stopped, TrainTask
from tests.parallel import processes
from tests.training import small

forkserver.set_forkserver_preload(["tests.training.forked", "tests.parallel.parity"])


def task_of(directory: Path, recipe: Recipe) -> TrainTask:
    """A task whose workspace is `directory`, with the tokens beside it."""
    tokens = small.make_tokens(directory.parent / "tokens").path
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    return TrainTask(
        recipe=recipe, tokens=tokens, workspace=directory, run="run", threads=1, peak_flops_per_second=None
    )


def world_of(recipe: Recipe) -> int:
    return layout_of(recipe.parallel).world


def start(tasks: list[TrainTask], *, steps: int | None = None, fp64: bool = False) -> mp.ProcessContext:
    """Begin the tasks, all of one world, one after the other; each is asked to stop after so many `steps`."""
    (world,) = {world_of(task.recipe) for task in tasks}
    folder = tasks[0].logs
    (folder / "store").unlink(missing_ok=True)
    return processes.start(world, str(folder), _train, [task.model_dump_json() for task in tasks], steps, fp64)


def train(tasks: list[TrainTask], *, steps: int | None = None, fp64: bool = False) -> None:
    """Do the tasks."""
    processes.wait(start(tasks, steps=steps, fp64=fp64))


def steps_of(task: TrainTask) -> list[dict[str, Any]]:
    """The history in the newest checkpoint's files."""
    return [json.loads(line) for line in (task.checkpoints / "steps.jsonl").read_text().splitlines()]


def files_of(task: TrainTask) -> dict[str, bytes]:
    """All that the checkpoints hold, the history too."""
    return {
        str(path.relative_to(task.checkpoints)): path.read_bytes()
        for path in sorted(task.checkpoints.rglob("*"))
        if path.is_file()
    }


def _train(rank: int, tasks: list[str], steps: int | None, fp64: bool) -> None:
    if fp64:
        torch.set_default_dtype(torch.float64)
    compute_deterministically()
    for each in tasks:
        task = TrainTask.model_validate_json(each)
        try:
            loop.run(task, Mesh(rank, world_of(task.recipe)), _asked_after(steps))
        except Stopped:
            assert steps is not None


def _asked_after(steps: int | None) -> Callable[[], bool]:
    """Says yes at this call."""
    left = [0] * steps if steps else []

    def asked() -> bool:
        if left:
            left.pop()
        return steps is not None and not left

    return asked
