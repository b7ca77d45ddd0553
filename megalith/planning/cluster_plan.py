"""The plan for a cluster that this machine is not: by the search, and nothing is run.

Whoever trains on the cluster takes up the plan as it stands, so that all its ranks train in one layout.
"""

from typing import Any

from megalith.job import Job
from megalith.planning.decision import Decision, size
from megalith.planning.measuring.accelerator_layouts import AcceleratorLayout, allocated_bytes, node_here
from megalith.planning.measuring.layout_trials import Trial
from megalith.planning.search import cluster_layout, kept
from megalith.planning.search.space import KNOBS, SECTIONS
from megalith.recipe import Origins, ParallelConfig, Recipe
from megalith.topology import LOCAL, describe

_MACHINES = ("cluster", "cluster.name", "cluster.file", "cluster.nodes", "cluster.accelerators_per_node")


def is_elsewhere(recipe: Recipe) -> bool:
    """Whether the recipe's machines are others than this one. Raises RecipeError for a cluster that is not known."""
    if recipe.cluster.name == LOCAL:
        return False
    describe(recipe.cluster)
    return node_here(recipe) is None


def with_open_layout(recipe: Recipe, origins: Origins) -> Recipe:
    """The recipe without the layout that its file has for other machines than those that overrides name.

    Overrides of the layout stay; where they name no machines, the recipe is as it was.
    """
    if not any(origins.get(key, "").startswith("override") for key in _MACHINES):
        return recipe
    keep = kept(recipe, origins, written=False)
    opened = {knob for knob in KNOBS if f"{SECTIONS[knob]}.{knob}" not in keep}
    said = recipe.parallel.model_fields_set - opened
    parallel = ParallelConfig(**{name: getattr(recipe.parallel, name) for name in said})
    train = recipe.train.model_copy(update={"micro_batch_size": None} if "micro_batch_size" in opened else {})
    return recipe.model_copy(update={"parallel": parallel, "train": train})


def predicted(recipe: Recipe) -> Decision:
    """The decision for the recipe's cluster, by the cost and the memory model.

    What the recipe sets of the layout is kept. Raises RecipeError or ResourceError where no layout will do.
    """
    sizes = size(recipe, None)
    asked = sizes.recipe.model_copy(
        update={"train": sizes.recipe.train.model_copy(update={"tokens": sizes.shape.tokens})}
    )
    found = cluster_layout(asked, keep=kept(recipe, {}, written=True), to_train=True)
    cluster, best = describe(recipe.cluster), found["best"]
    parallel = ParallelConfig(**{knob: value for knob, value in best.items() if SECTIONS[knob] == "parallel"})
    train = asked.train.model_copy(update={"micro_batch_size": best["micro_batch_size"]})
    job = Job.of(asked.model_copy(update={"parallel": parallel, "train": train}), cluster)
    trial = Trial(
        AcceleratorLayout.of(job),
        allocated_bytes(job),
        found["step_seconds"],
        tuple(found["interval"]),
        f"chosen: the fastest of {found['candidates_considered']:,} that fits, as predicted",
    )
    own = {**best, "step_seconds": found["step_seconds"], "memory_bytes": found["memory_bytes"], "why": trial.why}
    rows = [{"precision": job.precision, **row} for row in (own, *found["runners_up"])]
    peak = cluster.facts.peak(job.product_type) * cluster.accelerators if cluster.facts else None
    machine: dict[str, Any] = {
        "cluster": cluster.name,
        "nodes": cluster.nodes,
        "accelerators": {
            "name": cluster.accelerator,
            "count": cluster.accelerators,
            "memory_bytes": round(cluster.memory_bytes),
            "datasheet": cluster.accelerator,
        },
        "gemm_flops_per_second": {},
        "left_out": {},
        "peak_flops_per_second": peak,
        "run": found["run"],
        "memory_of_a_rank_bytes": found["memory_bytes"],
    }
    return Decision(
        sizes, trial, rows, found["candidates_considered"], found["search_seconds"], machine, found["notes"]
    )
