"""A run that goes on with the ranks that are left when others are lost (`train.elastic`).

The layout is no part of a run (decision 016): the last checkpoint is read in the layout that the planner finds best for
the ranks that are left, with the same batches in the same order, and the losses stay the same within rounding. On one
machine the launcher does so; under torchrun its agent starts the ranks anew, and each finds the layout for as many as
there are.
"""

import os
from collections.abc import Callable
from typing import Any

from megalith.console import note
from megalith.errors import UnsupportedError
from megalith.recipe import Recipe
from megalith.topology import layout_of
from megalith.training import launch
from megalith.training.task import TrainTask

Relayout = Callable[[Recipe, int, int], Recipe | None]
"""The recipe in its best layout on at most and at least so many ranks; None where there is none."""


def start(task: TrainTask, relayout: Relayout | None) -> TrainTask:
    """Train on this machine, with fewer ranks where some are lost; the task as it ended. Raises as `launch.start`."""
    while True:
        processes = layout_of(task.recipe.parallel).world
        try:
            launch.start(task, processes)
        except launch.LostRanksError as lost:
            fewer = _with_fewer(task, processes, lost, relayout)
            if fewer is None:
                raise
            task = fewer
        else:
            return task


def _with_fewer(
    task: TrainTask, processes: int, lost: launch.LostRanksError, relayout: Relayout | None
) -> TrainTask | None:
    """The task on the ranks that are left; None where they are too few, or there is no layout for them."""
    least, left = task.recipe.train.elastic, processes - len(lost.ranks)
    recipe = relayout(task.recipe, left, least) if relayout and least and left >= least else None
    if recipe is None:
        return None
    parallel = recipe.parallel
    layout = {axis: getattr(parallel, axis) for axis in ("tensor", "pipeline", "data", "zero")}
    layout |= {"context": parallel.context} if (parallel.context or 1) > 1 else {}
    note(
        f"{lost.what} The run goes on from its last checkpoint with {layout_of(parallel).world} of {left} ranks: "
        + ", ".join(f"{axis} {size}" for axis, size in layout.items())
        + "."
    )
    event: dict[str, Any] = {"event": "ranks lost", "ranks": list(lost.ranks), "layout": layout}
    return task.model_copy(update={"recipe": recipe, "event": event})


def for_as_many_as_started(recipe: Recipe, relayout: Relayout | None) -> Recipe:
    """Under a launcher that has started other ranks than the recipe asks for: its best layout for just these.

    Raises UnsupportedError where there is none; a recipe that is not elastic is left to be refused.
    """
    least, count = recipe.train.elastic, int(os.environ.get("WORLD_SIZE", "1"))
    if relayout is None or not least or layout_of(recipe.parallel).world == count or count < least:
        return recipe
    found = relayout(recipe, count, count)
    if found is None:
        raise UnsupportedError(
            f"{count} processes have been started, and the model and its batch of {recipe.train.global_batch_size} "
            "cannot be spread over them.",
            where="train.elastic",
            mend="Start fewer, or a number that divides the batch.",
        )
    return found
