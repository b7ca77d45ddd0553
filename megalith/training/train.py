"""The train stage: from a sized recipe and tokens to a model, its history and its last checkpoint.

The work is done in processes of its own, also where one is enough: their memory is this stage's alone, a crash or a
full memory takes none of the caller's down, and the caller stays free to be interrupted. Under torchrun and srun, where
the processes are there already, each does its part in place.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from megalith.arithmetic import flops_per_token
from megalith.artifacts import Artifact, Workspace, open_artifact, produce
from megalith.errors import RecipeError, UnsupportedError
from megalith.machine import cpu_name, usable_cores
from megalith.recipe import Recipe
from megalith.schedules import Action, Op, action_lists
from megalith.tokens import GENERATION
from megalith.topology import check_layout, describe, layout_of, refuse_planned_settings, this_machine
from megalith.training import checkpoint, elastic, launch
from megalith.training.data import micro_batches
from megalith.training.initial_weights import check_origin
from megalith.training.live import refuse_live_tasks
from megalith.training.lr_schedule import learning_rate
from megalith.training.mirroring import mirror_last, take_up_mirror
from megalith.training.monitor import compared, measured_steps
from megalith.training.run_settings import mend_of, run_of, settings_of
from megalith.training.slurm import take_up_slurm
from megalith.training.task import MEASURED, TrainTask, Trunk, kernels_of_run
from megalith.training.token_ids import refuse_ids_beyond_the_vocabulary

TOKENIZER_FILES = ("tokenizer.json", GENERATION)
LAST_STEPS = 20  # train_loss is the mean over these


def train(
    recipe: Recipe,
    path: Path,
    tokens: Artifact,
    *,
    peak_flops_per_second: float | None,
    predicted: Mapping[str, float],
    corpus: Path | None = None,
    trunk: Trunk | None = None,
    relayout: elastic.Relayout | None = None,
) -> Artifact:
    """Train the recipe's model on `tokens`; the artifact at `path` holds model, history, last checkpoint and logs.

    With a `trunk` it is a branch that begins with that checkpoint. With `train.from` it begins with the weights of that
    model, whose digests are inputs of the artifact.
    `corpus` has the tasks that evaluate.every may score. `relayout` finds the layout for the ranks that are left when
    others are lost (train.elastic).
    The recipe is a plan's: sized, with train.tokens, micro-batch, precision and parallel.* given.
    MFU is relative to `peak_flops_per_second`; `predicted` has the plan's step_seconds and memory_bytes.

    Raises UnsupportedError for settings that can be planned and not yet trained, RecipeError where the recipe is not
    whole, ResourceError when a process dies, MegalithError when the run diverges. A SIGTERM saves the state and raises
    SystemExit(143); the same call takes the run up again.
    """
    take_up_slurm()
    if "RANK" in os.environ:
        recipe = elastic.for_as_many_as_started(recipe, relayout)
    processes = check(recipe)
    settings, recorded = settings_of(recipe)
    inputs = {"tokens": tokens.digest, **(origin := check_origin(recipe, tokens.path))}
    if trunk is not None:
        settings["trunk"] = {"run": trunk.run, "step": trunk.step}
        inputs["trunk"] = trunk.digest

    def task_in(workspace: Path) -> TrainTask:
        return TrainTask(
            recipe=recipe,
            tokens=tokens.path.absolute(),
            workspace=workspace.absolute(),
            run=run_of(workspace, settings, tokens.digest, recipe.seed, *([origin] if origin else [])),
            threads=_threads(processes),
            kernels=kernels_of_run(workspace, _threads(processes)),
            peak_flops_per_second=peak_flops_per_second,
            predicted=dict(predicted),
            corpus=corpus.absolute() if corpus else None,
            trunk=trunk,
        )

    def make(train_in: Callable[[TrainTask], TrainTask]) -> Artifact:
        def build(workspace: Workspace) -> Mapping[str, Any]:
            refuse_ids_beyond_the_vocabulary(recipe, tokens)
            (workspace.logs / MEASURED).unlink(missing_ok=True)
            task = task_in(workspace.path)
            take_up_mirror(task)
            task = train_in(task)
            mirror_last(task)
            _assemble(workspace, task)
            return _facts(task)

        return produce(
            path,
            stage="train",
            settings=settings,
            inputs=inputs,
            seed=recipe.seed,
            build=build,
            recorded=recorded,
            machine={
                "processor": cpu_name(),
                "accelerator": this_machine().accelerator,
                "processes": processes,
                "threads_per_process": _threads(processes),
            },
            precious=True,
            mend=partial(mend_of, dropout=recipe.model.dropout > 0),
        )

    if "RANK" not in os.environ:
        return make(lambda task: elastic.start(task, relayout))
    return launch.work_in_place(processes, lead=make, follow=task_in) or open_artifact(path, "train", check=False)


def check(recipe: Recipe) -> int:
    """The number of processes that the recipe asks for.

    Raises UnsupportedError for settings that cannot be trained, RecipeError where something is missing or cannot be.
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
            raise RecipeError("the plan has not filled this in.", where=key, mend="Plan first, or set it.")
    refuse_what_cannot_be_trained(recipe)
    layout = layout_of(parallel)
    check_layout(describe(recipe.cluster), layout, model, parallel, train)
    largest = micro_batches(recipe, train.global_batch_size, layout.data)
    if layout.pipeline > 1:
        _refuse_split_gradients(recipe, action_lists(parallel, largest, training=True))
    learning_rate(train, 1)
    return layout.world


def refuse_what_cannot_be_trained(recipe: Recipe) -> None:
    """Raise UnsupportedError for settings that training cannot serve; open ones are passed over."""
    parallel = recipe.parallel
    refuse_live_tasks(recipe)
    refuse_planned_settings(recipe.model, recipe.parallel, recipe.train)
    if recipe.train.mirror is not None:
        checkpoint.Mirror(recipe.train.mirror)
    if parallel.schedule_file is not None and recipe.train.batch_ramp is not None:
        raise UnsupportedError(
            "parallel.schedule_file fixes the number of micro-batches, which train.batch_ramp changes.",
            where="parallel.schedule_file",
            mend="Use a parallel.schedule, or remove train.batch_ramp.",
        )
    context = parallel.context or 1
    if parallel.zero_shard and parallel.data and parallel.data * context % parallel.zero_shard:
        whole = f"data={parallel.data}" if context == 1 else f"data × context = {parallel.data} × {context}"
        raise RecipeError(
            f"zero_shard={parallel.zero_shard} does not divide {whole}.",
            where="parallel.zero_shard",
            mend="Set a divisor of that, or null for all of it.",
        )


def _refuse_split_gradients(recipe: Recipe, lists: Sequence[Sequence[Action]]) -> None:
    """Compiled layers find all of their gradients at once; zero-bubble schedules want those of the weights later."""
    if recipe.train.compile and any(action.op is Op.INPUT_GRADIENT for own in lists for action in own):
        raise UnsupportedError(
            f"compiled layers cannot run {recipe.parallel.schedule_file or recipe.parallel.schedule}, which computes "
            "the gradients of inputs and weights apart.",
            where="train.compile",
            mend="Set train.compile=false, or parallel.schedule=1f1b.",
        )


def _threads(processes: int) -> int:
    """CPU threads of each process: srun's count, or an equal share of this machine's cores."""
    of_a_task = os.environ.get("SLURM_CPUS_PER_TASK") if "RANK" in os.environ else None
    if of_a_task:
        return int(of_a_task)
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", processes)))


def _assemble(workspace: Workspace, task: TrainTask) -> None:
    """Write the model and the history beside the last checkpoint."""
    last = checkpoint.newest(task.checkpoints, task.run)
    if last is None:
        raise AssertionError("the training ended without a checkpoint")
    with workspace.file("model/model.safetensors") as path:
        checkpoint.consolidate(last, path)
    for name in TOKENIZER_FILES:
        if (task.tokens / name).is_file():
            with workspace.file(f"model/{name}") as path:
                shutil.copyfile(task.tokens / name, path)
    workspace.write_json("model/config.json", task.recipe.model.model_dump(mode="json"))
    workspace.write_json("history.json", last.progress.history)


def _facts(task: TrainTask) -> dict[str, Any]:
    """The figures of the run: the processes' measurements, and what follows from them."""
    measured = json.loads((task.logs / MEASURED).read_text())
    timing = measured_steps(task.logs)
    history = json.loads((task.workspace / "history.json").read_text())
    losses = [step["loss"] for step in history["steps"][-LAST_STEPS:] if step["loss"] is not None]
    tokens_of_a_step = task.recipe.train.global_batch_size * task.recipe.model.sequence_length
    flops_of_a_step = tokens_of_a_step * flops_per_token(task.recipe.model)
    flops = flops_of_a_step / timing["step_seconds"] if timing["step_seconds"] else None  # of the steps that are timed
    peak = task.peak_flops_per_second
    return {
        **measured,
        **timing,
        "tokens_per_second": measured["tokens"] / timing["seconds"] if timing["seconds"] else None,
        "flops_per_second": flops,
        "peak_flops_per_second": peak,
        "mfu": flops / peak if flops and peak else None,
        "train_loss": sum(losses) / len(losses) if losses else None,
        "processes": layout_of(task.recipe.parallel).world,
        "parallel": task.recipe.parallel.model_dump(mode="json"),
        "threads_per_process": task.threads,
        "kernels": task.kernels,
        "precision": task.recipe.train.precision,
        "predicted": task.predicted,
        **({"trunk": task.trunk.model_dump(mode="json", include={"run", "step", "changes"})} if task.trunk else {}),
        "compared": compared(
            task.predicted,
            {"step_seconds": timing["step_seconds"], "memory_bytes": measured["peak_memory_bytes"]},
        ),
    }
