"""The train stage: from a sized recipe and tokens to a model, its history and its last checkpoint.

The work is done in processes of its own, also where one is enough: their memory is this stage's alone, a crash or a
full memory takes none of the caller's down, and the caller stays free to be interrupted. Under torchrun, where the
processes are there already, each does its part in place.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from megalith.arithmetic import flops_per_token
from megalith.artifacts import Artifact, Workspace, open_artifact, produce
from megalith.errors import RecipeError, UnsupportedError
from megalith.machine import usable_cores
from megalith.model.gpt import refuse_what_is_only_planned
from megalith.recipe import Recipe
from megalith.training import checkpoint, launch
from megalith.training.job import MEASURED, Job
from megalith.training.monitor import measured_steps
from megalith.training.schedule import learning_rate

VERSION = 1
LAST_STEPS = 20  # train_loss is the mean over these


def train(
    recipe: Recipe,
    path: Path,
    tokens: Artifact,
    *,
    peak_flops_per_second: float | None,
    predicted: Mapping[str, float],
) -> Artifact:
    """Train the recipe's model on `tokens`; the artifact at `path` holds model, history, last checkpoint and logs.

    The recipe is a plan's: sized, with train.tokens, micro-batch, precision and parallel.* given.
    `peak_flops_per_second` is what utilisation is a share of; `predicted` the plan's step_seconds and memory_bytes.

    Raises UnsupportedError for what can be planned and not yet trained, RecipeError where the recipe is not whole,
    ResourceError when a process dies, MegalithError when the run diverges. A SIGTERM saves the state and raises
    SystemExit(143); the same call takes the run up again.
    """
    processes = check(recipe)
    settings = {
        "model": recipe.model.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json"),
        "parallel": {axis: getattr(recipe.parallel, axis) for axis in ("tensor", "pipeline", "data")},
        "version": VERSION,
    }
    depends_on = json.dumps([settings, tokens.digest, recipe.seed], sort_keys=True)

    def job_in(workspace: Path) -> Job:
        return Job(
            recipe=recipe,
            tokens=tokens.path.absolute(),
            workspace=workspace.absolute(),
            run=hashlib.sha256(depends_on.encode()).hexdigest(),
            threads=max(1, usable_cores() // processes),
            peak_flops_per_second=peak_flops_per_second,
        )

    def make(train_in: Callable[[Job], None]) -> Artifact:
        def build(workspace: Workspace) -> Mapping[str, Any]:
            job = job_in(workspace.path)
            (workspace.logs / MEASURED).unlink(missing_ok=True)
            train_in(job)
            _assemble(workspace, job)
            return _facts(job, processes) | {"predicted": dict(predicted)}

        inputs = {"tokens": tokens.digest}
        return produce(path, stage="train", settings=settings, inputs=inputs, seed=recipe.seed, build=build)

    if "RANK" not in os.environ:
        return make(lambda job: launch.start(job, processes))
    launch.work_in_place(processes, lead=make, follow=job_in)
    return open_artifact(path, "train")


def check(recipe: Recipe) -> int:
    """The number of processes that the recipe asks for.

    Raises UnsupportedError for what cannot be trained yet, RecipeError where something is missing or does not divide.
    """
    model, train, parallel = recipe.model, recipe.train, recipe.parallel
    given = {
        "model.num_layers": model.num_layers,
        "train.tokens": train.tokens,
        "train.micro_batch_size": train.micro_batch_size,
        "parallel.tensor": parallel.tensor,
        "parallel.pipeline": parallel.pipeline,
        "parallel.data": parallel.data,
        "train.precision": None if train.precision == "auto" else train.precision,
    }
    for key, value in given.items():
        if value is None:
            raise RecipeError("the plan has not filled this in.", where=key, mend="Plan first, or give it.")
    refuse_what_cannot_be_trained(recipe)
    processes = parallel.data or 1
    _check_batches(recipe, processes * (train.micro_batch_size or 1))
    learning_rate(train, 1)
    return processes


def refuse_what_cannot_be_trained(recipe: Recipe) -> None:
    """Raise UnsupportedError for what a recipe asks for and training cannot do yet; what is open is passed over."""
    train, parallel = recipe.train, recipe.parallel
    refuse_what_is_only_planned(recipe.model)
    works: dict[str, tuple[object, tuple[object, ...]]] = {
        "train.precision": (train.precision, ("fp32", "bf16", "auto")),
        "parallel.tensor": (parallel.tensor, (1, None)),
        "parallel.pipeline": (parallel.pipeline, (1, None)),
        "parallel.zero": (parallel.zero, (0,)),
        "parallel.sequence_parallel": (parallel.sequence_parallel, (False,)),
        "parallel.recompute": (parallel.recompute, ("none",)),
        "cluster.nodes": (recipe.cluster.nodes, (1,)),
    }
    for key, (asked, working) in works.items():
        if asked not in working:
            raise UnsupportedError(
                f"{asked} can be planned, not yet trained.",
                where=key,
                mend=f"Give {' or '.join(str(each) for each in working if each is not None)}.",
            )


def _check_batches(recipe: Recipe, share: int) -> None:
    """That every batch of the run is whole micro-batches on every rank."""
    ramp = recipe.train.batch_ramp
    sizes = {"train.global_batch_size": recipe.train.global_batch_size}
    if ramp:
        sizes |= {"train.batch_ramp.start": ramp.start, "train.batch_ramp.increment": ramp.increment}
    for key, size in sizes.items():
        if size % share:
            raise RecipeError(
                f"{size} is not a multiple of parallel.data × train.micro_batch_size = {share}.",
                where=key,
                mend=f"Try {max(share, size // share * share)}, or a smaller micro-batch.",
            )


def _assemble(workspace: Workspace, job: Job) -> None:
    """Lay out what the stage is for beside the last checkpoint."""
    last = checkpoint.newest(job.checkpoints, job.run)
    if last is None:
        raise AssertionError("the training ended without a checkpoint")
    with workspace.file(f"model/{checkpoint.MODEL}") as path:
        shutil.copyfile(last.path / checkpoint.MODEL, path)
    with workspace.file("model/tokenizer.json") as path:
        shutil.copyfile(job.tokens / "tokenizer.json", path)
    workspace.write_json("model/config.json", job.recipe.model.model_dump(mode="json"))
    workspace.write_json("history.json", last.progress.history)


def _facts(job: Job, processes: int) -> dict[str, Any]:
    """What the processes measured, and what follows from it."""
    measured = json.loads((job.logs / MEASURED).read_text())
    timing = measured_steps(job.logs)
    history = json.loads((job.workspace / "history.json").read_text())
    losses = [step["loss"] for step in history["steps"][-LAST_STEPS:] if step["loss"] is not None]
    tokens_per_second = measured["tokens"] / timing["seconds"] if timing["seconds"] else None
    flops = tokens_per_second * flops_per_token(job.recipe.model) if tokens_per_second else None
    peak = job.peak_flops_per_second
    return {
        **measured,
        **timing,
        "tokens_per_second": tokens_per_second,
        "flops_per_second": flops,
        "peak_flops_per_second": peak,
        "mfu": flops / peak if flops and peak else None,
        "train_loss": sum(losses) / len(losses) if losses else None,
        "processes": processes,
        "threads_per_process": job.threads,
        "precision": job.recipe.train.precision,
    }
