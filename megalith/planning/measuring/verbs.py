"""The figures of `plan layout` on this machine, of `plan calibrate --measure`, and of `plan layout --measured`."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megalith.arithmetic import step_flops
from megalith.batches import micro_batches, powers_of_two_dividing
from megalith.console import note, steps_shown
from megalith.errors import RecipeError, UnsupportedError
from megalith.job import Job, precision_on
from megalith.machine import usable_cores
from megalith.planning.budget import sized
from megalith.planning.measuring.accelerator_layouts import memory_here, node_here
from megalith.planning.measuring.compose import BlockStep, predict_here
from megalith.planning.measuring.layout_trials import LocalLayout
from megalith.planning.measuring.local_layouts import check_layout, machine_of, search_layouts
from megalith.planning.measuring.machine_file import read_table, write_table
from megalith.planning.measuring.measure import expected_seconds, measure
from megalith.planning.measuring.rates import measure_rates
from megalith.planning.measuring.training_memory import refuse_what_cannot_fit
from megalith.planning.measuring.workers import start_workers
from megalith.recipe import ModelConfig, Recipe
from megalith.topology import Layout, refuse_planned_settings, this_machine

_AS_ASKED = {"virtual_stages", "schedule", "recompute", "sequence_parallel", "zero"}

PROCESSES = (1, 2, 4)
QUIET = 0.5  # of the cores: what others may take before they are spoken of
MICRO_BATCH_SIZE = 4  # at most, where the recipe leaves it open


def measured_layout(recipe: Recipe) -> dict[str, Any]:
    """The best layout on this machine; the keys are those of `--json`.

    Raises RecipeError, ResourceError or UnsupportedError where no layout will do.
    """
    refuse_planned_settings(recipe.model, recipe.parallel, recipe.train)
    if recipe.model.is_sized:
        refuse_what_cannot_fit(recipe.model, memory_here(recipe))
    with steps_shown() as tell:
        tell("measuring this machine")
        rates = {} if node_here(recipe) else measure_rates(usable_cores()).flops_per_second
        with start_workers(max(check_layout(recipe))) as workers:
            recipe = sized(recipe, machine_of(recipe, rates, workers))
            refuse_what_cannot_fit(recipe.model, memory_here(recipe))
            search = search_layouts(recipe, rates, tell=tell, workers=workers)
    best = search.best
    flops = step_flops(recipe.model, recipe.train.global_batch_size)
    return {
        "best": {**recipe.parallel.model_dump(mode="json", include=_AS_ASKED), **asdict(best.layout)},
        "step_seconds": best.step_seconds,
        "tflops_per_gpu": flops / best.step_seconds / best.layout.processes / 1e12,
        "memory_bytes": best.memory_bytes,
        "memory": best.memory,
        "bubble_fraction": _bubble(recipe, best.layout),
        "interval": list(best.interval),
        "runners_up": search.rows()[1:],
        "candidates_considered": search.considered,
        "search_seconds": search.seconds,
    }


def calibrate_here(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Measure this machine for the recipe's model, write the table to `path`, and give `--json`'s keys.

    Before, it is said how long this takes about, and that others are at work here where they are.

    A model without a shape is first given the one that the plan would choose. Raises UnsupportedError for a bert,
    ResourceError where a worker dies.
    """
    model = sized(recipe).model
    jobs = list(jobs_of(recipe, model))
    _announce(jobs)
    start = time.perf_counter()
    table = measure(jobs)
    write_table(table, path)
    return {
        "path": str(path),
        "machine": table.machine,
        "model": model.model_dump(mode="json"),
        "rates": table.rates,
        "blocks": len(table.blocks),
        "measuring_seconds": time.perf_counter() - start,
        "layouts": rows_of([(job, predict_here(job, table)) for job in jobs]),
    }


def layouts_here(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Predict the recipe's layouts on the measured machine in the file at `path`; the keys are those of `--json`.

    Raises InputError where there is no such file, UnsupportedError where none of the layouts was measured, RecipeError
    where the model's shape depends on a budget in hours.
    """
    if not recipe.model.is_sized and recipe.budget.hours is not None:
        raise RecipeError(
            "how large a model budget.hours buys is measured, and with a measured file nothing is run.",
            where="budget.hours",
            mend="Set budget.flops or the model's shape.",
        )
    refuse_planned_settings(recipe.model, recipe.parallel, recipe.train)
    table, model = read_table(path), sized(recipe).model
    known: list[tuple[Job, BlockStep]] = []
    unknown: list[UnsupportedError] = []
    for job in jobs_of(recipe, model):
        try:
            known.append((job, predict_here(job, table)))
        except UnsupportedError as error:
            unknown.append(error)
    if not known:
        raise unknown[0]
    return {
        "machine": table.machine,
        "model": model.model_dump(mode="json"),
        "layouts": rows_of(known),
        "not_measured": len(unknown),
    }


def jobs_of(recipe: Recipe, model: ModelConfig) -> Iterator[Job]:
    """The recipe's step on 1, 2 and 4 processes of this machine, in each layout that can be."""
    batch, train, here = recipe.train.global_batch_size, recipe.train, this_machine()
    for processes in PROCESSES:
        for layout in _layouts(processes, model, batch):
            share = batch // layout.data
            fitting = [n for n in powers_of_two_dividing(share, MICRO_BATCH_SIZE) if share // n >= layout.pipeline]
            size = train.micro_batch_size or max(fitting, default=1)
            if share % size:
                continue
            for zero in (0, 3) if layout.data == processes > 1 else (0,):
                yield Job(
                    model=model,
                    cluster=here,
                    layout=layout,
                    micro_batch_size=size,
                    global_batch_size=batch,
                    precision=precision_on(here, recipe),
                    zero=zero,
                )


def rows_of(predicted: Sequence[tuple[Job, BlockStep]]) -> list[dict[str, Any]]:
    """A row for each layout, the fastest first."""
    rows = []
    for job, step in predicted:
        flops = step_flops(job.model, job.global_batch_size)
        rows.append(
            {
                "processes": job.layout.world,
                "tensor": job.layout.tensor,
                "pipeline": job.layout.pipeline,
                "data": job.layout.data,
                "zero": job.zero,
                "micro_batch_size": job.micro_batch_size,
                "precision": job.precision,
                "step_seconds": step.seconds,
                "interval": list(step.interval),
                "flops_per_second": flops / step.seconds,
                "parts": dict(step.parts),
            }
        )
    return sorted(rows, key=lambda row: row["step_seconds"])


def _announce(jobs: Sequence[Job]) -> None:
    load, cores = os.getloadavg()[0], usable_cores()
    if load > QUIET * cores:
        note(
            f"other programs are at work: load {load:.1f}, cores {cores}. They are measured as well, and make every "
            "prediction slow; a quiet machine is a better one to measure."
        )
    minutes = max(1, round(expected_seconds(jobs) / 60))
    note(f"measuring this machine: about {minutes} min if nothing else is at work here")


def _layouts(processes: int, model: ModelConfig, batch: int) -> Iterator[Layout]:
    for tensor in powers_of_two_dividing(processes, processes):
        for pipeline in powers_of_two_dividing(processes // tensor, processes):
            data = processes // tensor // pipeline
            splits = model.heads % tensor == 0 and model.ffn_hidden % tensor == 0
            if splits and pipeline <= model.layers and batch % data == 0:
                yield Layout(tensor, pipeline, data)


def _bubble(recipe: Recipe, layout: LocalLayout) -> float:
    """The share of a step in which the ranks of the pipeline wait, all stages and passes taken as equally long."""
    stages, virtual = layout.pipeline, recipe.parallel.virtual_stages
    count = micro_batches(recipe.train.global_batch_size, layout.data, layout.micro_batch_size)
    return (stages - 1) / (virtual * count + stages - 1)
