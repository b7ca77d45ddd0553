"""Faults on one rank: a step that must not be taken, an error, a kill, a signal."""

import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from megalith.errors import InputError, MegalithError
from megalith.parallel import Mesh, Optimizer, build_mesh, compute_dtype, parallelize
from megalith.recipe import Recipe
from megalith.tokens import TrainingWindows
from megalith.training import launch, loop, worker
from megalith.training.checkpoint import Progress
from megalith.training.data import CausalSamples, batches
from megalith.training.loop import Run, take_step
from megalith.training.loss_scale import HYSTERESIS, LossScale
from megalith.training.task import TrainTask, forget_errors, read_error
from megalith.training.timeouts import later_timeout, set_timeout
from tests.parallel.processes import on_ranks, start, wait
from tests.training import forked, small

LENGTH = 16
SPREAD = {"tensor": 2, "pipeline": 2}
WORLD = 4
SCALE = 256.0


# steps that must not be taken


def run_of(ranks: Mesh, recipe: Recipe) -> Run:
    """A run before its first step, over windows in memory."""
    dtype = compute_dtype(recipe.train.precision)
    model = parallelize(
        recipe.model, recipe.parallel, build_mesh(ranks, recipe.parallel), dtype=dtype, seed=recipe.seed
    )
    task = TrainTask(recipe=recipe, tokens=Path(), workspace=Path(), run="", threads=1, peak_flops_per_second=None)
    samples = CausalSamples(TrainingWindows(np.random.default_rng(1).integers(0, small.VOCAB, 3000), LENGTH, 7))
    scale = LossScale(SCALE, grows=recipe.train.precision == "fp16")
    nothing: Any = None
    optimizer = Optimizer(model.masters, recipe.train)
    return Run(task, model, optimizer, scale, Progress(run=""), samples, nothing, 0, nothing)


def with_a_bad_weight(rank: int, precision: str, bad: float) -> dict[str, Tensor]:
    """Three steps at TP 2 × PP 2; from the second on, the last rank has a weight in which nothing can be computed."""
    recipe = small.small_recipe(
        model={"dropout": 0.0}, parallel=SPREAD, batch_ramp=None, precision=precision, tokens=8 * LENGTH * 10
    )
    run = run_of(Mesh(rank, WORLD), recipe)
    plan = batches(run.train, LENGTH)
    told, moved, scales = [], [], []
    for step in range(4):
        if step == 1 and rank == WORLD - 1:
            next(m for m in run.model.masters if m.name == "layers.1.mlp.up.weight").value.data[0, 0] = bad
            run.model.copy_master_weights()
        before = [m.value.detach().clone() for m in run.model.masters]
        record = take_step(run, next(plan))
        assert (run.back is not None) == (step == 1 and math.isnan(bad))
        run.back = None
        told.append(record["loss"] is None or record["gradient_norm"] is None)
        pairs = zip(before, run.model.masters, strict=True)
        moved.append(not all(torch.equal(old.nan_to_num(), m.value.detach().nan_to_num()) for old, m in pairs))
        scales.append(run.scale.scale)
        json.dumps(record, allow_nan=False)
    counts = [run.optimizer.steps, run.progress.skipped_steps, run.progress.skipped_in_a_row, run.progress.step]
    return {
        "told": torch.tensor(told),
        "moved": torch.tensor(moved),
        "scales": torch.tensor(scales),
        "counts": torch.tensor(counts),
    }


@pytest.mark.parametrize(("precision", "bad"), [("fp32", math.nan), ("fp16", 6e4)])
def test_what_one_stage_cannot_compute_is_a_skipped_step_on_every_rank(precision: str, bad: float) -> None:
    for rank in on_ranks(WORLD, with_a_bad_weight, precision, bad):
        assert rank["told"].tolist() == [False, True, True, True]
        assert rank["moved"].tolist() == [True, False, False, False]
        assert rank["counts"].tolist() == [1, 3, 3, 4]
        grown = [SCALE, SCALE, SCALE / 2, SCALE / 4] if precision == "fp16" else [SCALE] * 4
        assert HYSTERESIS == 2
        assert rank["scales"].tolist() == grown


# errors of a rank


def raise_on_the_second(rank: int, task_file: str, how: str) -> dict[str, Tensor]:
    """Rank 1 fails in the middle of the work, and rank 0 waits for it, until it is gone."""

    def run(task: TrainTask, ranks: Mesh, asked_to_stop: Any, give_up: Any) -> dict[str, Any]:
        if rank == 1:
            if how == "foreseen":
                raise InputError("this shard is gone.", where="shard 7")
            raise ZeroDivisionError("a bug")
        while not (task.logs / "error.json").is_file():
            time.sleep(0.01)
        raise RuntimeError("Connection closed by peer")

    loop.run = run
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    code = worker.main(task_file, str(os.getppid()))
    return {"code": torch.tensor(code)}


@pytest.mark.parametrize("how", ["foreseen", "a bug"])
def test_the_error_of_the_rank_that_failed_first_is_the_one_that_is_told(
    tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    task = forked.task_of(tmp_path / "run", small.small_recipe(2))
    (task.logs / "job.json").write_text(task.model_dump_json())
    forget_errors(task)
    found = on_ranks(2, raise_on_the_second, str(task.logs / "job.json"), how)
    assert [rank["code"].item() for rank in found] == [1, 1]
    error = read_error(task)
    shown = capfd.readouterr().err
    if how == "foreseen":
        assert isinstance(error, InputError)
        assert (error.what, error.where) == ("this shard is gone.", "shard 7")
        assert "Traceback" not in shown
    else:
        assert isinstance(error, MegalithError)
        assert "rank 1 has failed: ZeroDivisionError: a bug" in error.what
        assert shown.count("Traceback") == 1
    forget_errors(task)
    assert read_error(task) is None


def raise_in_place(rank: int, job_json: str) -> dict[str, Tensor]:
    """As under torchrun: the first to fail raises, the other one leaves without a word."""

    def work(task: TrainTask, ranks: Mesh, give_up: Any) -> None:
        if rank == 0:
            while not (task.logs / "error.json").is_file():
                time.sleep(0.01)
        raise InputError("this shard is gone.") if rank else RuntimeError("Connection closed by peer")

    worker.work = work
    try:
        launch._work(TrainTask.model_validate_json(job_json), Mesh(rank, 2))
    except InputError:
        return {"raised": torch.tensor(1)}
    except SystemExit as left:
        assert left.code == 1
        return {"raised": torch.tensor(0)}
    raise AssertionError


def test_under_a_launcher_the_rank_that_failed_first_alone_speaks(tmp_path: Path) -> None:
    task = forked.task_of(tmp_path / "run", small.small_recipe(2))
    assert [rank["raised"].item() for rank in on_ranks(2, raise_in_place, task.model_dump_json())] == [0, 1]


def wait_for_one_that_hangs(rank: int, told: str) -> None:
    """Rank 0 waits in a collective that rank 1 comes to late."""
    ranks = build_mesh(Mesh(rank, 2), small.small_recipe(2).parallel)
    set_timeout(ranks, 0.5)
    began = time.monotonic()
    if rank == 0:
        with pytest.raises(RuntimeError, match=r"[Tt]imed? ?out"):
            dist.all_reduce(torch.ones(1), group=ranks.submesh("replicate").get_group())
        Path(told).write_text(str(time.monotonic() - began))
    while not Path(told).is_file():
        time.sleep(0.01)
    os._exit(0)


def test_a_rank_that_hangs_is_given_up_when_patience_ends(tmp_path: Path) -> None:
    wait(start(2, str(tmp_path), wait_for_one_that_hangs, str(tmp_path / "told")))
    assert 0.4 < float((tmp_path / "told").read_text()) < 5
    assert later_timeout(1.0) == 300
    assert later_timeout(100.0) == 1000


# kills and signals, of the real command


def test_a_signal_saves_and_a_dead_rank_takes_the_job_down_at_tensor_2_pipeline_2(tmp_path: Path) -> None:
    checkpoints = tmp_path / ".train.partial" / "checkpoints"

    process = small.start(tmp_path, **SPREAD)
    small.wait_until(lambda: small.steps_logged(tmp_path) >= 2, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command takes it up again" in said
    assert "Traceback" not in said
    stopped_at = small.steps_logged(tmp_path)
    assert (checkpoints / "latest").read_text() == f"step-{stopped_at:08d}\n"

    process = small.start(tmp_path, **SPREAD)
    small.wait_until(lambda: small.steps_logged(tmp_path) > stopped_at, process)
    ranks = [child for child in psutil.Process(process.pid).children() if "megalith.training" in child.cmdline()]
    assert len(ranks) == WORLD
    next(rank for rank in ranks if rank.environ()["RANK"] == "3").kill()
    began = time.monotonic()
    said = process.communicate(timeout=300)[1]
    assert time.monotonic() - began < 120  # a loaded machine; waiting for the timeout would take 300
    assert said.count("LostRanksError: ") == 1
    assert "the training process of rank 3 was killed (signal 9)" in said
    assert not psutil.wait_procs(ranks, timeout=5)[1]
