"""From a recipe and changes to it to the waterfalls of their layouts, and the figures of `--json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megalith.errors import RecipeError, ResourceError, UnsupportedError
from megalith.job import Job
from megalith.planning.budget import sized
from megalith.planning.performance.constants import generation_of, of_generation, read_constants
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.search import Evaluator, best_layout, choices
from megalith.planning.search.request import question_of
from megalith.planning.waterfall.parts import Waterfall, waterfall
from megalith.recipe import Overrides, Recipe, load_recipe
from megalith.topology import LOCAL, check_layout, describe, layout_of

BEST = "best"
"""In place of changes: the layout that `plan layout` finds."""


def explain_layouts(
    source: Recipe | str | Path, overrides: Overrides, beside: Sequence[str], constants: Path | None = None
) -> tuple[list[Waterfall], dict[str, Any]]:
    """The waterfalls of the recipe's layout and of those beside it, and the keys of `--json`.

    Each of `beside` is overrides with spaces between them, on top of the others, or BEST. A recipe that leaves its
    layout open has the best one. Raises RecipeError for a layout that cannot be, UnsupportedError for this machine,
    whose layouts are measured.
    """
    base = [overrides] if isinstance(overrides, str) else overrides
    first = load_recipe(source, base)[0]
    if first.cluster.name == LOCAL:
        raise UnsupportedError(
            "a step on this machine is measured, and not taken apart.",
            where="cluster.name",
            mend="Set cluster.name=dgx-h100 or another cluster, or cluster=FILE.yaml.",
        )
    jobs = [_job(sized(first))]
    for more in beside:
        if more == BEST:
            jobs.append(_best(sized(first)))
        else:
            said = [*(base if not hasattr(base, "items") else [f"{k}={v}" for k, v in base.items()]), *more.split()]
            jobs.append(_job(sized(load_recipe(source, said)[0])))
    given = None if constants is None else read_constants(constants)
    falls = [
        waterfall(job, of_generation(generation_of(job.cluster), job.stack, given) if given else None) for job in jobs
    ]
    return falls, {"layouts": [_figures(fall) for fall in falls]}


def _job(recipe: Recipe) -> Job:
    parallel = recipe.parallel
    if parallel.tensor is None or parallel.pipeline is None or parallel.data is None:
        return _best(recipe)
    if parallel.schedule_file is not None:
        raise UnsupportedError(
            "a schedule of your own is not taken apart.",
            where="parallel.schedule_file",
            mend="Leave it out; `plan timeline` draws it.",
        )
    cluster = describe(recipe.cluster)
    check_layout(cluster, layout_of(parallel), recipe.model, parallel, recipe.train)
    return Job.of(recipe, cluster)


def _best(recipe: Recipe) -> Job:
    """The best layout; what the recipe's file says of it is open, as in `plan layout`."""
    question = question_of(recipe, describe(recipe.cluster), ())
    found = best_layout(question, Evaluator(sure=True)) or best_layout(question, Evaluator())
    if found is None:
        raise ResourceError("no layout fits.", where="cluster.nodes", mend="See `megalith plan layout`.")
    return found.best.job


def _figures(fall: Waterfall) -> dict[str, Any]:
    estimate, step = estimate_memory(fall.job), fall.step
    return {
        "cluster": fall.job.cluster.name,
        "accelerators": fall.job.accelerators,
        "layout": choices(fall.job),
        "step_seconds": step.seconds,
        "interval": list(step.interval),
        "tflops_per_gpu": step.tflops_per_gpu,
        "mfu": step.mfu,
        "memory_bytes": estimate.worst.device_bytes,
        "memory_of_accelerator_bytes": fall.job.cluster.memory_bytes,
        "parts": [
            {"name": part.name, "group": part.group, "seconds": part.seconds, "share": part.seconds / step.seconds,
             "why": part.why}
            for part in fall.parts
        ],
    }  # fmt: skip


def label(fall: Waterfall) -> str:
    """A layout in a line."""
    job = fall.job
    words = [f"T {job.layout.tensor} × P {job.layout.pipeline} × D {job.layout.data}"]
    if job.layout.context > 1:
        words.append(f"C {job.layout.context}")
    words.append(f"{job.micro_batch_size} a time")
    if job.layout.pipeline > 1:
        words.append(job.schedule if job.virtual_stages == 1 else f"interleaved ×{job.virtual_stages}")
    if job.recompute != "none":
        words.append(f"{job.recompute} recompute")
    if job.zero:
        words.append(f"ZeRO {job.zero}")
    return ", ".join(words)


__all__ = ["BEST", "RecipeError", "explain_layouts", "label"]
