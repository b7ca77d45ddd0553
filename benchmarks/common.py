"""Shared by the benchmarks of training: a run on made-up tokens, where it is measured, and the file of results."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from megalith.machine import cpu_name, usable_cores
from megalith.parallel import Mesh, Optimizer, build_mesh, compute_dtype, parallelize
from megalith.recipe import ModelConfig, Recipe
from megalith.tokens import write_shards
from megalith.training import checkpoint
from megalith.training.data import training_samples, validation_samples
from megalith.training.loss_scale import loss_scale
from megalith.training.run_state import Run
from megalith.training.task import TrainTask

RESULTS = Path(__file__).parent / "results"
ZIPF = 1.3  # text has few frequent words; uniform tokens would leave nothing to learn


def write_tokens(folder: Path, vocab_size: int, count: int) -> Path:
    """A folder of as many made-up tokens, as the tokenize stage would leave them."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        write_shards(folder / split, [(rng.zipf(ZIPF, count) - 1) % vocab_size], vocab_size)
    return folder


def recipe_of(config: ModelConfig, train: Mapping[str, Any], parallel: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe that trains this model; axes that are not named have one rank."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "about": "A benchmark.",
            "model": config.model_dump(mode="json"),
            "tokenize": {"vocab_size": config.vocab_size},
            "train": dict(train),
            "parallel": {"tensor": 1, "pipeline": 1, "data": 1} | dict(parallel or {}),
        }
    )


def begin(recipe: Recipe, tokens: Path, ranks: Mesh) -> Run:
    """The state that `megalith.training.run_state.begin` gives before a first step; no checkpoint is looked for.

    `ranks` may be a single process among others, which that function would ask for their checkpoints.
    """
    task = TrainTask(recipe=recipe, tokens=tokens, workspace=tokens, run="", threads=1, peak_flops_per_second=None)
    train = recipe.train
    model = parallelize(
        recipe.model,
        recipe.parallel,
        ranks if ranks.device_mesh is not None else build_mesh(ranks, recipe.parallel),
        dtype=compute_dtype(train.precision),
        seed=recipe.seed,
        compile_layers=bool(train.compile),
    )
    held_out, count = validation_samples(task)
    return Run(
        task=task,
        model=model,
        optimizer=Optimizer(model.masters, train),
        scale=loss_scale(train.precision),
        progress=checkpoint.Progress(run=""),
        samples=training_samples(task),
        held_out=held_out,
        held_out_count=count,
        saver=checkpoint.Saver(task.checkpoints, dist.group.WORLD),
    )


def machine() -> dict[str, Any]:
    """Processor and versions."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_results(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Write `folder`/`name`.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
