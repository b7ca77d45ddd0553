"""The layout that a recipe gives on more axes than data: it is not searched for, but tried as it is on this machine.

Every process of the layout is started, and whole steps are timed at two numbers of micro-batches. A step grows by a
fixed time with each micro-batch, so the two give the time of any number; the pipeline's bubble, the reductions and the
optimizer are in what does not grow.
"""

from megalith.batches import micro_batches, powers_of_two_dividing
from megalith.console import human_bytes
from megalith.errors import ResourceError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.candidates import Candidate, Layout, error_of, undisturbed
from megalith.planning.memory import USABLE_SHARE, training_memory
from megalith.planning.workers import Workers, start_workers
from megalith.precision import Precision
from megalith.recipe import ParallelConfig, Recipe
from megalith.topology import Layout as Axes
from megalith.topology import check_layout, describe

SECONDS = 1.0  # for each number of micro-batches
MOST_TOKENS = 8192  # of a micro-batch, where the recipe leaves it open


def is_given(recipe: Recipe) -> bool:
    """Whether the recipe spreads the model over more than the data axis, or in a way that the search does not try."""
    parallel = recipe.parallel
    return (parallel.tensor or 1) * (parallel.pipeline or 1) > 1 or parallel.zero > 0 or parallel.recompute != "none"


def axes(recipe: Recipe) -> Axes:
    """The layout's sizes, 1 where open. Raises RecipeError for a layout that cannot be."""
    parallel = recipe.parallel
    layout = Axes(parallel.tensor or 1, parallel.pipeline or 1, parallel.data or 1)
    if recipe.model.is_sized:
        check_layout(describe(recipe.cluster), layout, recipe.model, parallel, recipe.train)
    return layout


def try_given(recipe: Recipe, precisions: list[Precision]) -> list[Candidate]:
    """The layout in each precision in which it fits, the fastest first. Raises ResourceError where it fits in none.

    A schedule file is for one number of micro-batches, so the schedule that `parallel.schedule` names stands for it.
    """
    layout = axes(recipe)
    size = _micro_batch_size(recipe, layout)
    sizes = {"tensor": layout.tensor, "pipeline": layout.pipeline, "data": layout.data}
    parallel = recipe.parallel.model_copy(update={**sizes, "schedule_file": None})
    most = USABLE_SHARE * total_memory_bytes()
    with start_workers(layout.world) as workers:
        memory = {precision: _memory(recipe, parallel, size, precision, workers) for precision in precisions}
        least = min(sum(parts.values()) for parts in memory.values())
        if least > most:
            raise ResourceError(
                f"this layout takes {human_bytes(least)}, and this machine has {human_bytes(total_memory_bytes())}.",
                mend="Give a smaller model, a smaller train.micro_batch_size or a shorter model.sequence_length.",
            )
        found = [
            _time(recipe, layout, parallel, size, precision, parts, workers)
            for precision, parts in memory.items()
            if sum(parts.values()) <= most
        ]
    return sorted(found, key=lambda candidate: candidate.step_seconds)


def _memory(
    recipe: Recipe, parallel: ParallelConfig, size: int, precision: Precision, workers: Workers
) -> dict[str, int]:
    question = {"ask": "memory", "model": recipe.model.model_dump(mode="json"), "precision": precision}
    return training_memory(recipe.model, size, parallel, precision, workers.ask(question)[0], workers.base_bytes)


def _time(
    recipe: Recipe,
    axes: Axes,
    parallel: ParallelConfig,
    size: int,
    precision: Precision,
    memory: dict[str, int],
    workers: Workers,
) -> Candidate:
    threads = max(1, usable_cores() // axes.world)
    whole = micro_batches(recipe.train.global_batch_size, axes.data, size)
    few = min(whole, axes.pipeline)
    counts = sorted({few, min(whole, 2 * few)})
    question = {
        "ask": "layout",
        "model": recipe.model.model_dump(mode="json"),
        "precision": precision,
        "parallel": parallel.model_dump(mode="json"),
        "threads": threads,
        "micro_batch_size": size,
        "micro_batches": counts,
        "seconds": SECONDS,
    }
    answers = workers.ask(question, axes.world)
    slowest = max(answers, key=lambda answer: undisturbed(answer[str(counts[-1])]))
    first, last = undisturbed(slowest[str(counts[0])]), undisturbed(slowest[str(counts[-1])])
    each = max(0.0, last - first) / (counts[-1] - counts[0]) if len(counts) == 2 else last / counts[-1]
    seconds = last + (whole - counts[-1]) * each
    error = error_of(slowest[str(counts[-1])])
    return Candidate(
        Layout(axes.data, threads, size, precision, axes.tensor, axes.pipeline),
        seconds,
        (seconds / (1 + error), seconds * (1 + error)),
        memory,
        "chosen: the recipe's own",
    )


def _micro_batch_size(recipe: Recipe, axes: Axes) -> int:
    """The recipe's, or the largest that leaves each stage of a pipeline a micro-batch."""
    if recipe.train.micro_batch_size:
        return recipe.train.micro_batch_size
    share = recipe.train.global_batch_size // axes.data
    most = max(1, MOST_TOKENS // recipe.model.sequence_length)
    fitting = [n for n in powers_of_two_dividing(share, most) if share // n % axes.pipeline == 0]
    return max(fitting, default=1)
