"""The figures of `megalith plan timeline`."""

from collections.abc import Sequence
from typing import Any

from megalith.planning.timeline.step import Step
from megalith.recipe import Recipe


def figures(recipe: Recipe, steps: Sequence[Step]) -> dict[str, Any]:
    """The figures of each step; the keys are those of `--json`."""
    first = steps[0]
    return {
        "recipe": recipe.name,
        "pipeline": len(first.lists),
        "micro_batches": 1 + max(action.micro_batch for action in first.lists[0]),
        "clock": first.timing.clock,
        "schedules": [_row(step) for step in steps],
    }


def title(recipe: Recipe) -> str:
    """Title of the picture."""
    parallel, train = recipe.parallel, recipe.train
    return (
        f"{recipe.name}: one step of {train.global_batch_size} sequences, tensor {parallel.tensor} × pipeline "
        f"{parallel.pipeline} × data {parallel.data}, micro-batch {train.micro_batch_size or 1}"
    )


def _row(step: Step) -> dict[str, Any]:
    return {
        "schedule": step.schedule,
        "virtual_stages": step.stages // len(step.lists),
        "step_seconds": step.step_seconds,
        "pipeline_seconds": step.pipeline.step_seconds,
        "longest_rank_seconds": step.pipeline.longest_rank_seconds,
        "reduction_seconds": step.timing.reduction_seconds,
        "optimizer_seconds": step.timing.optimizer_seconds,
        "bubble_fraction": step.bubble_fraction,
        "bubble_fractions": list(step.bubble_fractions),
        "in_flight": list(step.in_flight),
        "peak_bytes": list(step.peaks) if step.held else None,
        "capacity_bytes": step.held.capacity_bytes if step.held else None,
    }
