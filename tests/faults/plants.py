"""The faults, and how each is planted in the ranks of a small run.

A fault is made from the seed and its number alone.
"""

import errno
import json
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megalith.parallel import DistributedModel, Mesh, compute_deterministically
from megalith.recipe import Recipe
from megalith.training import loop, run_state
from megalith.training.checkpoint import storage
from megalith.training.data import Samples
from megalith.training.task import TrainTask
from tests.training import forked, small

KILLS = ("kill a rank", "kill all", "lost node")
KINDS = (*KILLS, "stop and continue", "full disk", "slow disk", "bad shard", "NaN", "bit flip")
LAYOUTS: dict[str, dict[str, Any]] = {
    "single": {},
    "DP 2": {"data": 2},
    "TP 2": {"tensor": 2},
    "PP 2": {"pipeline": 2},
    "ZeRO-1 2": {"data": 2, "zero": 1},
}
FLIPPED = {"DP 2": "layers.0.mlp.up.weight", "TP 2": "final_norm.weight", "PP 2": "token_embedding.weight"}
"""A weight that two ranks hold alike. Nothing can tell of a bit that flips in what only one rank holds."""
SEQUENCES, LENGTH, STEPS, INTERVAL, MILESTONE = 8, 16, 30, 5, 5
KEPT = 2
FIRST_STEP, FIRST_SPIKE = 7, 20  # a checkpoint stands; a window of losses does
STOPPED_SECONDS, SLOW_SECONDS = 1.0, 0.5
FAULT, TICKS = "fault.json", "ticks.jsonl"
"""In the logs: when the fault came and in which process, and when each step ended."""


@dataclass(frozen=True)
class Fault:
    """One fault of one run."""

    number: int
    kind: str
    layout: str
    rank: int
    step: int
    share: float
    """The part of the longest delay, for the kinds that come at a moment."""

    @property
    def bad(self) -> range:
        """The samples of a bad shard: two of the step's."""
        first = (self.step - 1) * SEQUENCES
        return range(first, first + 2)


def draw(seed: int, number: int) -> Fault:
    """The fault of this number: kinds and layouts in turn, the rest by dice."""
    dice = random.Random(f"{seed}-{number}")
    kind = KINDS[number % len(KINDS)]
    layouts = tuple(FLIPPED) if kind == "bit flip" else tuple(LAYOUTS)
    layout = layouts[number // len(KINDS) % len(layouts)]
    first = FIRST_SPIKE if kind == "bad shard" else FIRST_STEP
    last = STEPS - 11 if kind in ("full disk", "slow disk", "bit flip") else STEPS - 2
    rank = dice.randrange(max(1, math.prod(LAYOUTS[layout].get(axis, 1) for axis in ("tensor", "pipeline", "data"))))
    return Fault(number, kind, layout, rank, dice.randint(first, max(first, last)), dice.random())


def recipe_of(layout: str) -> Recipe:
    """The run: 30 steps, checkpoints every 5 of which 2 and the first are kept."""
    settings: dict[str, Any] = {
        "tokens": STEPS * SEQUENCES * LENGTH,
        "batch_ramp": None,
        "micro_batch_size": 4,
        "learning_rate": 0.02,
        "on_spike": "skip",
        "spike_window": 8,
        "spike_score": 5.0,
        "checkpoint_interval": INTERVAL,
        "checkpoints_kept": KEPT,
        "milestones": (MILESTONE,),
        "replica_check_interval": INTERVAL,
        "validation_interval": 100,
        "timeout_seconds": 60.0,
        "elastic": 1,
    }
    return small.small_recipe(model={"dropout": 0.0}, parallel=LAYOUTS[layout], **settings)


def train(rank: int, task_json: str, fault_json: str | None) -> None:
    """A rank's part of the run, with what is planted in it."""
    task = TrainTask.model_validate_json(task_json)
    os.dup2(os.open(task.logs / f"said-{rank}", os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    if rank == 0:
        _tick(task.logs)
    if fault_json is not None:
        fault = Fault(**json.loads(fault_json))
        _PLANTS[fault.kind](fault, rank, task.logs)
    compute_deterministically()
    loop.run(task, Mesh(rank, forked.world_of(task.recipe)), lambda: False)


def to_json(fault: Fault) -> str:
    return json.dumps(asdict(fault))


def _tick(logs: Path) -> None:
    """Write down when each step has ended."""
    right = loop.take_step

    def ticking(run: run_state.Run, batch: Any) -> dict[str, Any]:
        record = right(run, batch)
        with (logs / TICKS).open("a") as file:
            file.write(json.dumps([batch.step, time.time()]) + "\n")
        return record

    loop.take_step = ticking


def _before_step(step: int, act: Callable[[run_state.Run], None], *, after: bool = False) -> None:
    """Act once, before the step (or after it)."""
    right, done = loop.take_step, []

    def acting(run: run_state.Run, batch: Any) -> dict[str, Any]:
        due = batch.step == step and not done
        if due and not after:
            done.append(1)
            act(run)
        record = right(run, batch)
        if due and after:
            done.append(1)
            act(run)
        return record

    loop.take_step = acting


def _mark(logs: Path) -> None:
    (logs / FAULT).write_text(json.dumps({"at": time.time(), "pid": os.getpid()}))


def _kill(fault: Fault, rank: int, logs: Path) -> None:
    """At a moment of this step or of the next few: between steps, within one, or in the middle of a save."""
    if rank != fault.rank and fault.kind != "kill all":
        return

    def later(run: run_state.Run) -> None:
        def die() -> None:
            if rank == fault.rank:
                _mark(logs)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Timer(fault.share * 0.2, die).start()

    _before_step(fault.step, later)


def _stop(fault: Fault, rank: int, logs: Path) -> None:
    """The one who looks on stops the process, and has it go on."""
    if rank == fault.rank:
        _before_step(fault.step, lambda run: _mark(logs))


def _full_disk(fault: Fault, rank: int, logs: Path) -> None:
    """One save fails, or two in a row."""
    if rank != fault.rank:
        return
    times = [0] * (1 if fault.share < 0.5 else 2)
    right = storage.write_tensors

    def full(*arguments: Any, **named: Any) -> Any:
        if times:
            times.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return right(*arguments, **named)

    def fill(run: run_state.Run) -> None:
        _mark(logs)
        storage.write_tensors = full

    _before_step(fault.step, fill)


def _slow_disk(fault: Fault, rank: int, logs: Path) -> None:
    if rank != fault.rank:
        return
    right = storage.write_tensors

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(SLOW_SECONDS)
        return right(*arguments, **named)

    def begin(run: run_state.Run) -> None:
        _mark(logs)
        storage.write_tensors = slow

    _before_step(fault.step, begin)


class _NoisyShard:
    """Samples of which a few are noise: ids that the others hardly have."""

    def __init__(self, samples: Samples, bad: range) -> None:
        self.samples, self.bad = samples, bad

    def batch(self, first: int, count: int) -> dict[str, Tensor]:
        read = {name: value.clone() for name, value in self.samples.batch(first, count).items()}
        for row in range(count):
            if first + row in self.bad:
                for value in read.values():
                    value[row] = torch.arange(LENGTH) * 17 % 200 + 100
        return read


def _bad_shard(fault: Fault, rank: int, logs: Path) -> None:
    right = run_state.training_samples
    run_state.training_samples = lambda task: _NoisyShard(right(task), fault.bad)  # type: ignore[assignment,return-value]
    if rank == 0:
        _before_step(fault.step, lambda run: _mark(logs))


def _nan(fault: Fault, rank: int, logs: Path) -> None:
    """A number of one rank's gradient, or, where they are summed as they come, of its loss, is none, once."""
    if rank != fault.rank:
        return
    right, due = DistributedModel.forward_backward, []

    def wrong(model: DistributedModel, *arguments: Any) -> Tensor:
        sums = right(model, *arguments)
        if due:
            due.pop()
            flat = getattr(model.gradients, "flat", None)
            if flat is None:
                return sums * math.nan
            flat[3] = math.nan
        return sums

    def plant(run: run_state.Run) -> None:
        _mark(logs)
        due.append(1)

    DistributedModel.forward_backward = wrong  # type: ignore[method-assign]
    _before_step(fault.step, plant)


def _flip(fault: Fault, rank: int, logs: Path) -> None:
    if rank != fault.rank:
        return

    def flip(run: run_state.Run) -> None:
        _mark(logs)
        (held,) = (master for master in run.model.masters if master.name == FLIPPED[fault.layout])
        held.value.data.view(-1).view(torch.int32)[0] ^= 1 << 12

    _before_step(fault.step, flip, after=True)


_PLANTS: dict[str, Callable[[Fault, int, Path], None]] = {
    **dict.fromkeys(KILLS, _kill),
    "stop and continue": _stop,
    "full disk": _full_disk,
    "slow disk": _slow_disk,
    "bad shard": _bad_shard,
    "NaN": _nan,
    "bit flip": _flip,
}
