"""The figures of `megalith plan layout` on this machine, which is measured."""

from dataclasses import asdict
from typing import Any

from megalith.arithmetic import step_flops
from megalith.batches import micro_batches
from megalith.console import steps_shown
from megalith.errors import UnsupportedError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.budget import sized
from megalith.planning.candidates import Candidate, Search
from megalith.planning.layouts import check_layout, machine_of, search_layouts
from megalith.planning.memory import refuse_what_cannot_fit
from megalith.planning.workers import start_workers
from megalith.rates import measure_rates
from megalith.recipe import Recipe
from megalith.topology import LOCAL

_AS_ASKED = {"virtual_stages", "schedule", "recompute", "sequence_parallel", "zero"}


def refuse_clusters(recipe: Recipe) -> None:
    """Raise UnsupportedError unless the recipe's machine is this one."""
    if recipe.cluster.name != LOCAL:
        raise UnsupportedError(
            f"a run is planned on the machine that it runs on, and not on the cluster {recipe.cluster.name}.",
            where="cluster.name",
            mend="Set cluster.name=local; `megalith plan layout` answers for the cluster.",
        )


def layout_figures(candidate: Candidate) -> dict[str, Any]:
    """The layout alone: what identifies a candidate."""
    return asdict(candidate.layout)


def candidate_rows(search: Search) -> list[dict[str, Any]]:
    """Every layout that was measured or given up, the chosen one first; what was not measured has no seconds."""
    return [
        {
            **layout_figures(candidate),
            "step_seconds": candidate.step_seconds if candidate.is_measured else None,
            "memory_bytes": candidate.memory_bytes or None,
            "why": candidate.why,
        }
        for candidate in search.candidates
    ]


def measured_layout(recipe: Recipe) -> dict[str, Any]:
    """The best layout on this machine, with the keys of `--json`."""
    if recipe.model.is_sized:
        refuse_what_cannot_fit(recipe.model, total_memory_bytes())
    with steps_shown() as tell:
        tell("measuring this machine")
        rates = measure_rates(usable_cores()).flops_per_second
        with start_workers(max(check_layout(recipe))) as workers:
            recipe = sized(recipe, machine_of(recipe, rates, workers))
            refuse_what_cannot_fit(recipe.model, total_memory_bytes())
            search = search_layouts(recipe, rates, tell=tell, workers=workers)
    best = search.best
    flops = step_flops(recipe.model, recipe.train.global_batch_size)
    return {
        "best": {**layout_figures(best), **recipe.parallel.model_dump(mode="json", include=_AS_ASKED)},
        "step_seconds": best.step_seconds,
        "tflops_per_gpu": flops / best.step_seconds / best.layout.processes / 1e12,
        "memory_bytes": best.memory_bytes,
        "memory": best.memory,
        "bubble_fraction": _bubble(recipe, best),
        "interval": list(best.interval),
        "runners_up": candidate_rows(search)[1:],
        "candidates_considered": search.considered,
        "search_seconds": search.seconds,
    }


def _bubble(recipe: Recipe, best: Candidate) -> float:
    """The share of a step in which the ranks of the pipeline wait, all stages and passes taken as equally long."""
    stages, virtual = best.layout.pipeline, recipe.parallel.virtual_stages
    count = micro_batches(recipe.train.global_batch_size, best.layout.data, best.layout.micro_batch_size)
    return (stages - 1) / (virtual * count + stages - 1)
