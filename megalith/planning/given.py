"""The layout that a recipe gives on more axes than data: it is not searched for, but tried as it is on this machine.

Every process of the layout is started, and whole steps are timed at two numbers of micro-batches. A step grows by a
fixed time with each micro-batch, so the two give the time of any number; the pipeline's bubble, the reductions and the
optimizer are in what does not grow.
"""

from collections.abc import Callable

from megalith.arithmetic import step_flops
from megalith.batches import micro_batches, powers_of_two_dividing
from megalith.console import human_bytes
from megalith.errors import ResourceError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.candidates import Candidate, Layout, error_of, undisturbed
from megalith.planning.memory import USABLE_SHARE, training_memory
from megalith.planning.workers import SlowAnswerError, Workers
from megalith.precision import Precision
from megalith.recipe import ParallelConfig, Recipe
from megalith.topology import Layout as Axes
from megalith.topology import check_layout, describe

SECONDS = 1.0  # for each number of micro-batches
LEAST_LIMIT_SECONDS = 60.0  # before an answer is no longer waited for, and
SLOWER = 30  # times a step as its FLOPs promise it: a few steps are timed, on a machine with other work too
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


def try_given(
    recipe: Recipe,
    precisions: list[Precision],
    workers: Workers,
    flops_per_second: float,
    tell: Callable[[str], object],
) -> list[Candidate]:
    """The layout in each precision in which it fits, the fastest first; one that takes far longer than its FLOPs at
    `flops_per_second` is given up.

    Raises ResourceError where it fits in none, or none could be measured. A schedule file is for one number of
    micro-batches, so the schedule that `parallel.schedule` names stands for it.
    """
    layout = axes(recipe)
    size = _micro_batch_size(recipe, layout)
    sizes = {"tensor": layout.tensor, "pipeline": layout.pipeline, "data": layout.data}
    parallel = recipe.parallel.model_copy(update={**sizes, "schedule_file": None})
    most = USABLE_SHARE * total_memory_bytes()
    limit = LEAST_LIMIT_SECONDS + SLOWER * step_flops(recipe.model, recipe.train.global_batch_size) / flops_per_second
    memory: dict[Precision, dict[str, int]] = {}
    found: list[Candidate] = []
    slow: SlowAnswerError | None = None
    for precision in precisions:
        memory[precision] = _memory(recipe, parallel, size, precision, workers, limit)
    least = min(sum(parts.values()) for parts in memory.values())
    if least > most:
        raise ResourceError(
            f"this layout takes {human_bytes(least)}, and this machine has {human_bytes(total_memory_bytes())}.",
            mend="Use a smaller model, a smaller train.micro_batch_size or a shorter model.sequence_length.",
        )
    for precision, parts in memory.items():
        if sum(parts.values()) > most:
            continue
        tell(f"measuring {layout.world} processes, micro-batches of {size}, {precision}")
        try:
            found.append(_time(recipe, layout, parallel, size, precision, parts, workers, limit))
        except SlowAnswerError as error:
            slow = error
    if slow is not None and not found:
        raise slow
    return sorted(found, key=lambda candidate: candidate.step_seconds)


def _memory(
    recipe: Recipe, parallel: ParallelConfig, size: int, precision: Precision, workers: Workers, limit: float
) -> dict[str, int]:
    question = {"ask": "memory", "model": recipe.model.model_dump(mode="json"), "precision": precision}
    (saved,) = workers.ask(question, seconds=limit)
    return training_memory(recipe.model, size, parallel, precision, saved, workers.base_bytes)


def _time(
    recipe: Recipe,
    axes: Axes,
    parallel: ParallelConfig,
    size: int,
    precision: Precision,
    memory: dict[str, int],
    workers: Workers,
    limit: float,
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
    answers = workers.ask(question, axes.world, seconds=limit)
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
