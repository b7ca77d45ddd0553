"""What `megalith plan budget` and `megalith plan layout` print."""

from dataclasses import asdict
from typing import Any

import torch

from megalith.arithmetic import step_flops
from megalith.errors import RecipeError, UnsupportedError
from megalith.laws import LAWS, compute_optimal
from megalith.machine import measure_peak_flops_per_second, total_memory_bytes, usable_cores
from megalith.planning.candidates import Candidate, Search
from megalith.planning.layouts import search_layouts
from megalith.planning.memory import refuse_what_cannot_fit
from megalith.planning.shapes import choose_shape
from megalith.recipe import Recipe

_AS_ASKED = {"virtual_stages", "schedule", "recompute", "sequence_parallel", "zero"}


def budget(flops: float) -> dict[str, Any]:
    """Compute-optimal parameters and tokens for `flops` by each law; the keys are those of `--json`."""
    if not 0 < flops < float("inf"):
        raise RecipeError(f"a budget of {flops:g} FLOPs buys nothing.", mend="Give a positive number, such as 1e21.")
    return {"flops": flops, "laws": laws_at(flops)}


def laws_at(flops: float) -> list[dict[str, Any]]:
    """One row a law: its optimum, and whether that lies below the smallest model the law was fitted on."""
    rows = []
    for name, law in LAWS.items():
        optimum = compute_optimal(flops, name)
        rows.append(
            {
                "law": name,
                "parameters": optimum.parameters,
                "tokens": optimum.tokens,
                "loss": optimum.loss,
                "interval": list(optimum.interval) if optimum.interval else None,
                "extrapolated": optimum.parameters < law.smallest_parameters,
                "source": law.source,
            }
        )
    return rows


def layout(recipe: Recipe) -> dict[str, Any]:
    """The best layout of the recipe's model on this machine, and why the others lost; the keys are those of `--json`.

    A model without a shape is first given the one that the plan would choose. Raises UnsupportedError for a cluster,
    ResourceError for a model that does not fit.
    """
    refuse_clusters(recipe)
    if not recipe.model.is_sized:
        recipe = recipe.model_copy(update={"model": choose_shape(recipe)[0].model})
    refuse_what_cannot_fit(recipe.model, total_memory_bytes())
    search = search_layouts(recipe, gemm_rates())
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


def refuse_clusters(recipe: Recipe) -> None:
    """Raise UnsupportedError unless the recipe's machine is this one."""
    if recipe.cluster.name != "local":
        raise UnsupportedError(
            f"step times and memory on the cluster {recipe.cluster.name} are not predicted yet, only on this machine.",
            where="cluster.name",
            mend="Give cluster.name=local for a plan for this machine.",
        )


def gemm_rates() -> dict[str, float]:
    """The most FLOPs per second that a square product reaches on all cores, by precision."""
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: measure_peak_flops_per_second(dtype, usable_cores()) for name, dtype in types.items()}


def layout_figures(candidate: Candidate) -> dict[str, Any]:
    """The layout alone: what identifies a candidate."""
    return asdict(candidate.layout)


def _bubble(recipe: Recipe, best: Candidate) -> float:
    """The share of a step in which the ranks of the pipeline wait, all stages and passes taken as equally long."""
    stages, virtual = best.layout.pipeline, recipe.parallel.virtual_stages
    micro_batches = recipe.train.global_batch_size // (best.layout.data * best.layout.micro_batch_size)
    return (stages - 1) / (virtual * micro_batches + stages - 1)


def candidate_rows(search: Search) -> list[dict[str, Any]]:
    """Every layout that was measured, the chosen one first."""
    return [
        {
            **layout_figures(candidate),
            "step_seconds": candidate.step_seconds,
            "memory_bytes": candidate.memory_bytes,
            "why": candidate.why,
        }
        for candidate in search.candidates
    ]
