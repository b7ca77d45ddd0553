"""A run with a fault in it: started, looked on, started again where it ended, and held against an unbroken run."""

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

from megalith.planning.search.fewer import best_with
from megalith.training import checkpoint
from megalith.training.checkpoint.files import standing
from megalith.training.task import TrainTask, forget_errors
from tests.faults.plants import (
    FAULT,
    INTERVAL,
    KEPT,
    MILESTONE,
    STEPS,
    STOPPED_SECONDS,
    TICKS,
    Fault,
    recipe_of,
    to_json,
    train,
)
from tests.parallel import processes
from tests.training import forked

PATIENCE_SECONDS = 900.0  # a loaded machine
LEAVE_SECONDS = 5.0
ROUNDING = 2e-5  # fp32 losses in another layout


@dataclass(frozen=True)
class Whole:
    """An unbroken run of a layout."""

    steps: list[dict[str, Any]]
    weights: dict[str, bytes]
    """The files of its last checkpoint with tensors in them."""
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The end of a run with a fault."""

    fault: Fault
    recovered: bool
    lost_steps: int
    """That a checkpoint should have had and had not."""
    silent: bool
    """Another result, and nothing said so."""
    deleted: int
    """Checkpoints that should stand and do not."""
    recovery_seconds: float | None
    """Until the run was past the step at which the fault came."""
    steps_taken: int
    seconds: float
    whole_seconds: float
    detail: str = ""


def unbroken(layout: str, room: Path) -> Whole:
    """The run without a fault."""
    task = _task(layout, room)
    began = time.time()
    failed = _attempt(task, None)
    assert not failed, f"the unbroken run of {layout} has failed"
    return Whole(forked.steps_of(task), _weights(task), time.time() - began)


def with_fault(fault: Fault, whole: Whole, room: Path) -> Outcome:
    """The run with the fault, to its end."""
    shutil.rmtree(room, ignore_errors=True)
    task = _task(fault.layout, room)
    began, lost, deleted, details = time.time(), 0, 0, []
    failed = _attempt(task, fault)
    if failed:
        reached = max((step for step, _ in _ticks(task)), default=0)
        found = checkpoint.newest(task.checkpoints, task.run)
        stands = found.progress.step if found else 0
        if fault.kind != "full disk":
            lost += max(0, (reached // INTERVAL - 1) * INTERVAL - stands)
        deleted += _missing(task, stands, fault)
        before = len(_ticks(task))
        task = _again(task, fault)
        if _attempt(task, None):
            details.append("the run did not go on")
        after = _ticks(task)[before:]
        lost += max(0, stands - (after[0][0] - 1)) if after else 0
    else:
        reached = -(-fault.step // INTERVAL) * INTERVAL if fault.kind == "bit flip" else fault.step
        deleted += _missing(task, STEPS, fault)
    ended = max((step for step, _ in _ticks(task)), default=0) == STEPS
    wrong = _wrong(task, fault, whole) if ended else "it did not end"
    named = _named(task, fault) if ended else ""
    details += [each for each in (wrong, named) if each]
    return Outcome(
        fault,
        recovered=ended and not details,
        lost_steps=lost,
        silent=bool(wrong) and ended,
        deleted=deleted,
        recovery_seconds=_recovery(task, min(reached + 1, STEPS)),
        steps_taken=len(_ticks(task)),
        seconds=time.time() - began,
        whole_seconds=whole.seconds,
        detail="; ".join(details),
    )


def _task(layout: str, room: Path) -> TrainTask:
    return forked.task_of(room, recipe_of(layout))


def _again(task: TrainTask, fault: Fault) -> TrainTask:
    """The task as it is taken up: on one rank fewer, where a node is lost."""
    forget_errors(task)
    world = forked.world_of(task.recipe)
    if fault.kind != "lost node" or world == 1:
        return task
    recipe = best_with(task.recipe, world - 1, 1)
    assert recipe is not None
    return task.model_copy(update={"recipe": recipe, "event": {"event": "ranks lost", "ranks": [fault.rank]}})


def _attempt(task: TrainTask, fault: Fault | None) -> bool:
    """Train until the end, or until a rank has failed and the others are gone; whether one has."""
    (task.logs / "store").unlink(missing_ok=True)
    told = to_json(fault) if fault else None
    context = processes.start(forked.world_of(task.recipe), str(task.logs), train, task.model_dump_json(), told)
    if fault is not None and fault.kind == "stop and continue":
        _stop_and_continue(task.logs)
    return _end_of(context)


def _stop_and_continue(logs: Path) -> None:
    end = time.time() + PATIENCE_SECONDS
    while time.time() < end:
        try:
            pid = json.loads((logs / FAULT).read_text())["pid"]
            break
        except (OSError, ValueError):
            time.sleep(0.002)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    os.kill(pid, signal.SIGCONT)


def _end_of(context: mp.ProcessContext) -> bool:
    end = time.time() + PATIENCE_SECONDS
    while time.time() < end:
        codes = [process.exitcode for process in context.processes]
        if any(codes):
            end = min(end, time.time() + LEAVE_SECONDS)
        if None not in codes:
            break
        time.sleep(0.01)
    failed = any(process.exitcode != 0 for process in context.processes)
    for process in context.processes:
        process.kill()
        process.join()
    return failed


def _ticks(task: TrainTask) -> list[tuple[int, float]]:
    path = task.logs / TICKS
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def _recovery(task: TrainTask, target: int) -> float | None:
    path = task.logs / FAULT
    times = [at for step, at in _ticks(task) if step == target]
    return times[-1] - json.loads(path.read_text())["at"] if times and path.is_file() else None


def _missing(task: TrainTask, newest: int, fault: Fault) -> int:
    """Checkpoints that should stand when `newest` does, and do not."""
    steps = {name.step for name in standing(task.checkpoints)}
    kept = 1 if newest == STEPS else KEPT
    wanted = {newest - INTERVAL * back for back in range(kept)} if fault.kind != "full disk" else {newest}
    return len({step for step in wanted | {MILESTONE} if 0 < step <= newest} - steps)


def _weights(task: TrainTask) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((task.checkpoints / f"step-{STEPS:08d}").glob("shard-*"))}


def _wrong(task: TrainTask, fault: Fault, whole: Whole) -> str:
    """How the result differs from the unbroken run's, where it should not."""
    steps = forked.steps_of(task)
    if [step["step"] for step in steps] != list(range(1, STEPS + 1)):
        return "steps are missing in the history"
    if fault.kind == "bad shard":
        same = steps[: fault.step - 1] == whole.steps[: fault.step - 1]
        return "" if same else "steps before the bad shard differ"
    if fault.kind == "lost node":
        pairs = zip(steps, whole.steps, strict=True)
        far = [got["step"] for got, want in pairs if abs(got["loss"] - want["loss"]) > ROUNDING * want["loss"]]
        return f"losses differ from step {far[0]} on" if far else ""
    if steps != whole.steps:
        return "losses differ"
    return "" if _weights(task) == whole.weights else "weights differ"


def _named(task: TrainTask, fault: Fault) -> str:
    """In words, where the history does not say of the fault what it should."""
    events = checkpoint.open_step(task.checkpoints / f"step-{STEPS:08d}").progress.events
    if fault.kind == "bad shard":
        found = [e for e in events if e["cause"] in ("data", "unclear") and e["step"] == fault.step]
        worst = [e["worst"]["samples"] for e in found if "worst" in e]
        micro_batch = [fault.bad.start, fault.bad.start + (task.recipe.train.micro_batch_size or 1) - 1]
        return "" if worst == [micro_batch] else f"the bad shard is not named, but {worst}"
    if fault.kind == "NaN":
        return "" if any(e["event"] == "taken the second time" for e in events) else "the wrong number is not named"
    if fault.kind == "lost node" and forked.world_of(recipe_of(fault.layout)) > 1:
        return "" if any(e["event"] == "ranks lost" for e in events) else "the lost rank is not named"
    if fault.kind == "bit flip":
        ranks = [e["ranks"] for e in events if e["event"] == "weights differed"]
        return "" if ranks == [[fault.rank]] else f"the flipped bit is not named, but {ranks}"
    return ""
