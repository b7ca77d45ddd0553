"""`megalith plan ranks`: which node holds which ranks, and what each of them sends over which links.

Seconds are those of each message alone on its links at their datasheet rate, nothing hidden behind computing: a floor
for the links, not a step time.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from megalith.job import Job
from megalith.planning.budget import sized
from megalith.planning.performance.traffic import Traffic, step_traffic
from megalith.recipe import Recipe, TrainConfig
from megalith.topology import (
    AXES,
    Cluster,
    Link,
    Tier,
    check_layout,
    describe,
    layout_of,
    refuse_planned_settings,
)

NODES_SHOWN = 8  # of more, those are shown that tell the pattern


def ranks(recipe: Recipe) -> dict[str, Any]:
    """Where every rank of the recipe lies and what it sends in a step at the full batch; the keys are `--json`'s.

    A model without a shape is first given the one that the plan would choose. Raises RecipeError for a layout that is
    left open or cannot be.
    """
    layout_of(recipe.parallel)
    refuse_planned_settings(recipe.model, recipe.parallel, recipe.train)
    recipe = sized(recipe)
    cluster = describe(recipe.cluster)
    job = Job.of(recipe, cluster)
    layout = job.layout
    notes = check_layout(cluster, layout, job.model, recipe.parallel, recipe.train)
    traffic = [_placed(row, rank, job) for rank in range(layout.pipeline) for row in step_traffic(job, rank)]
    return {
        "cluster": cluster.name,
        "accelerator": cluster.accelerator,
        "nodes": cluster.nodes,
        "accelerators_per_node": cluster.accelerators_per_node,
        "layout": asdict(layout),
        "world": layout.world,
        "micro_batches": job.micro_batches,
        "ranks": [{"rank": rank, "node": cluster.node(rank), **layout.coordinates(rank)._asdict()}
                  for rank in range(layout.world)],
        "traffic": traffic,
        "tiers": [_tier_row(tier, cluster, traffic) for tier in cluster.tiers],
        "notes": [*notes, *_counted_notes(recipe.train)],
    }  # fmt: skip


def fold_nodes(found: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """The nodes of `ranks`' result with their ranks and where these lie on each axis; None for nodes left out.

    The first nodes are there, where the second stage begins, and the last: the rest follows from them.
    """
    by_node: dict[int, list[dict[str, int]]] = {}
    for rank in found["ranks"]:
        by_node.setdefault(rank["node"], []).append(rank)
    second_stage = next((rank["node"] for rank in found["ranks"] if rank["pipeline"] == 1), 0)
    telling = {0, 1, 2, second_stage - 1, second_stage, found["nodes"] - 1}
    rows: list[dict[str, Any] | None] = []
    for node, members in by_node.items():
        if len(by_node) <= NODES_SHOWN or node in telling:
            rows.append({"node": node, **{key: span(member[key] for member in members) for key in ("rank", *AXES)}})
        elif rows[-1] is not None:
            rows.append(None)
    return rows


def fold_traffic(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `ranks`' traffic that differ in more than their stage; where the links differ, the slowest.

    In the order of the axes from the nearest to the farthest.
    """
    folded: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in found["traffic"]:
        told = tuple(row[key] for key in ("axis", "what", "collective", "group_size", "count", "payload_bytes"))
        folded.setdefault(told, []).append(row)
    rows = [
        {**max(alike, key=lambda row: row["seconds"] or 0.0), "pipeline": span(row["pipeline"] for row in alike)}
        for alike in folded.values()
    ]
    return sorted(rows, key=lambda row: ("tensor", "context", "data", "pipeline", "ends").index(row["axis"]))


def span(numbers: Iterable[int]) -> str:
    """Numbers in words: 0–7, 3, or 0, 34."""
    distinct = sorted(set(numbers))
    if len(distinct) == 1:
        return str(distinct[0])
    if distinct[-1] - distinct[0] + 1 == len(distinct):
        return f"{distinct[0]}–{distinct[-1]}"
    return ", ".join(map(str, distinct))


def _placed(row: Traffic, pipeline_rank: int, job: Job) -> dict[str, Any]:
    """The row with the links of the slowest of this stage's groups: the step waits for that one."""
    cluster = job.cluster
    links = {cluster.link(group) for group in _groups(row, pipeline_rank, job)}
    slowest = max(links, key=lambda link: (_seconds(row, link) or 0.0, cluster.tiers.index(link.tier)))
    placed = replace(row, tier=slowest.tier.name)
    return {
        "pipeline": pipeline_rank,
        **asdict(placed),
        "wire_bytes": row.wire_bytes,
        "bytes_per_second": slowest.bytes_per_second,
        "seconds": _seconds(row, slowest),
    }


def _seconds(row: Traffic, link: Link) -> float | None:
    return link.seconds(row.wire_bytes, row.hops)


def _groups(row: Traffic, pipeline_rank: int, job: Job) -> Iterator[tuple[int, ...]]:
    """The groups in which ranks of this stage send such a row."""
    layout = job.layout
    places = itertools.product(range(layout.data), range(layout.context), range(layout.tensor))
    for data, context, tensor in places:
        rank = layout.rank(pipeline_rank, data, context, tensor)
        if row.axis == "tensor" and tensor == 0:
            yield layout.group("tensor", rank)
        elif row.axis == "context" and context == 0:
            yield layout.group("context", rank)
        elif row.axis == "data" and data == context == 0:
            divide = layout.replica_groups if row.collective == "all_reduce" else layout.shard_groups
            yield from divide(rank, job.shard_ranks)
        elif row.axis == "ends":
            yield layout.ends(rank)
        elif row.axis == "pipeline":
            step = 1 if row.what == "activations" else -1
            yield rank, layout.rank((pipeline_rank + step) % layout.pipeline, data, context, tensor)


def _tier_row(tier: Tier, cluster: Cluster, traffic: list[dict[str, Any]]) -> dict[str, Any]:
    """Messages of the busiest stage's ranks over the links of `tier`."""
    here = [row for row in traffic if row["tier"] == tier.name]
    stages = {row["pipeline"] for row in here}
    sent = {stage: sum(row["wire_bytes"] for row in here if row["pipeline"] == stage) for stage in stages}
    busiest = max(sent, key=sent.__getitem__, default=None)
    seconds = [row["seconds"] for row in here if row["pipeline"] == busiest]
    return {
        "name": tier.name,
        "accelerators": cluster.span(tier),
        "bytes_per_second": tier.bytes_per_second,
        "latency_seconds": tier.latency_seconds,
        "axes": sorted({row["axis"] for row in here}),
        "pipeline": busiest,
        "wire_bytes": sent[busiest] if busiest is not None else 0.0,
        "seconds": None if None in seconds else sum(seconds),
    }


def _counted_notes(train: TrainConfig) -> list[str]:
    """Notes on settings that are left open."""
    notes = []
    if train.micro_batch_size is None:
        notes.append("train.micro_batch_size is left open: traffic is counted for 1.")
    if train.precision == "auto":
        notes.append("train.precision is auto: traffic is counted for bf16.")
    return notes
