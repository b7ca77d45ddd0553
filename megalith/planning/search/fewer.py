"""The best layout on the ranks that are left of a run, by the cost model."""

from dataclasses import replace

from megalith.job import precision_on
from megalith.planning.search.candidate import Candidate, Evaluator
from megalith.planning.search.objectives import FINALISTS, best_layout
from megalith.planning.search.result import choices
from megalith.planning.search.space import SECTIONS, Question, trained_only
from megalith.recipe import Recipe
from megalith.recipe.changes import LAYOUT_OF_DROPOUT
from megalith.topology import Cluster, describe

MOST_COUNTS = 3
"""Numbers of ranks for which there is a layout that are compared, from the most on."""
UNMEASURED_FLOPS, UNMEASURED_LINK, UNMEASURED_LATENCY = 1e11, 2e9, 5e-5
"""A core of a machine that nobody has measured, and what two of its processes exchange: layouts are only compared."""


def best_with(recipe: Recipe, most: int, least: int) -> Recipe | None:
    """The recipe in its fastest layout on at most `most` and at least `least` ranks; None where there is none.

    Model and global batch stay, and with dropout what decides on what is dropped. Whole nodes are used, where there is
    more than one.
    """
    found: list[Candidate] = []
    evaluator = Evaluator()
    for ranks in range(most, least - 1, -1):
        cluster = _left(describe(recipe.cluster), ranks)
        if cluster is not None and len(found) < MOST_COUNTS:
            answer = best_layout(_question(recipe, cluster), evaluator, kept=FINALISTS)
            found += [answer.best] if answer else []
    if not found:
        return None
    chosen = choices(min(found, key=lambda candidate: candidate.seconds).job)
    kept = {name: chosen.pop(name) for name, section in SECTIONS.items() if section == "train"}
    parallel = recipe.parallel.model_copy(update={**chosen, "schedule_file": None})
    return recipe.model_copy(update={"parallel": parallel, "train": recipe.train.model_copy(update=kept)})


def _question(recipe: Recipe, cluster: Cluster) -> Question:
    names = [key.partition(".")[2] for key in LAYOUT_OF_DROPOUT] if recipe.model.dropout else []
    fixed = trained_only(recipe) | {name: getattr(recipe.parallel, name) for name in names}
    precision = precision_on(cluster, recipe)
    train = recipe.train
    return Question(recipe.model, cluster, train.global_batch_size, precision, bool(train.compile), fixed)


def _left(cluster: Cluster, ranks: int) -> Cluster | None:
    """So many ranks of a cluster; None where they are not whole nodes."""
    if cluster.takes_any_world:
        near = cluster.tiers[0]
        near = replace(
            near,
            bytes_per_second=near.bytes_per_second or UNMEASURED_LINK,
            latency_seconds=near.latency_seconds or UNMEASURED_LATENCY,
        )
        return replace(
            cluster,
            accelerators_per_node=ranks,
            memory_bytes=cluster.memory_bytes * cluster.accelerators / ranks,
            peak_flops_per_second=cluster.peak_flops_per_second or UNMEASURED_FLOPS,
            tiers=(near, *cluster.tiers[1:]),
        )
    whole, rest = divmod(ranks, cluster.accelerators_per_node)
    if whole == 0:
        return replace(cluster, nodes=1, accelerators_per_node=ranks)
    return replace(cluster, nodes=whole) if rest == 0 else None
