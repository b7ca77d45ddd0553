"""`megalith plan dryrun`: the real training step of any rank of any job, on tensors without memory.

The code is training's own (`parallelize`, the pipeline's lists, the gradients' reduction, AdamW); the tensors are
fake, and so are the other ranks. Memory is what torch allocates at the step's peak, to the byte of a block; the
messages are those that the code sends. Nothing is timed: seconds are for the planner's other verbs.

A pipeline repeats itself once it is full, so of a step's micro-batches only so many are run as fill this rank, and one
round more. Every count grows by the same number with each micro-batch, so a shorter and a longer step give the whole
step's; the peak is the longer one's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from megalith.arithmetic import parameters
from megalith.console import progress
from megalith.errors import RecipeError
from megalith.job import Job
from megalith.model import MODELS
from megalith.parallel import build_mesh
from megalith.parallel.pipeline import keep_stage
from megalith.planning.budget import sized
from megalith.planning.dryrun.collectives import Amount, Message
from megalith.planning.dryrun.fakes import FakeTensors, fake_ranks
from megalith.planning.dryrun.kernels import gpu_kernels
from megalith.planning.dryrun.step import Training, begin
from megalith.planning.dryrun.watch import Watch
from megalith.recipe import ModelConfig, Recipe
from megalith.schedules import layers_of_stages
from megalith.schedules.closed_forms import most_in_flight
from megalith.topology import AXES, LOCAL, Cluster, Layout, check_layout, describe, layout_of, refuse_planned_settings

BLOCK_BYTES = 512  # torch's CUDA allocator gives no less, and multiples of it
Sent = dict[Message, Amount]
Key = TypeVar("Key")
COPIES, WIDE_GATHERS = "copies", "fp32_gathers"


def dryrun(recipe: Recipe, ranks: Sequence[int] = (), *, stages: bool = False) -> dict[str, Any]:
    """A training step of each asked rank at the full batch; the keys are those of `--json`.

    Without `ranks` it is rank 0; with `stages` also the first rank of the first, the middle and the last stage.
    Raises RecipeError for a layout that is left open or cannot be, and for a rank
    that is not there.
    """
    start = time.perf_counter()
    run = _resolve(recipe)
    job = run.job
    asked = _asked(job.layout, ranks, stages=stages)
    rows = []
    with progress() as bar:
        task = bar.add_task("dry run", total=sum(sum(_lengths(run, rank)) for rank in asked))
        for rank in asked:
            bar.update(task, description=f"rank {rank}")
            rows.append(_rank_row(run, rank, lambda: bar.advance(task)))
    return {
        "cluster": job.cluster.name,
        "accelerator": job.cluster.accelerator,
        "memory_bytes": job.cluster.memory_bytes,
        "layout": {axis: job.layout.size(axis) for axis in AXES},
        "world": job.layout.world,
        "micro_batch_size": job.micro_batch_size,
        "micro_batches": job.micro_batches,
        "parameters": _parameters_of_stages(job.model, job.stages),
        "parameters_by_arithmetic": parameters(job.model).total,
        "fits": all(row["fits"] for row in rows),
        "ranks": rows,
        "notes": run.notes,
        "seconds": time.perf_counter() - start,
    }


@dataclass(frozen=True)
class _Run:
    """The job that is dry-run, and the recipe that builds it: sized, with nothing left open, at the full batch."""

    recipe: Recipe
    job: Job
    notes: list[str]


def _resolve(recipe: Recipe) -> _Run:
    layout = layout_of(recipe.parallel)
    model = sized(recipe).model
    train = recipe.train.model_copy(update={"batch_ramp": None})
    notes = []
    if train.micro_batch_size is None:
        notes.append("train.micro_batch_size is left open: 1 is taken.")
        train = train.model_copy(update={"micro_batch_size": 1})
    if train.precision == "auto":
        notes.append("train.precision is auto: bf16 is taken.")
        train = train.model_copy(update={"precision": "bf16"})
    refuse_planned_settings(model, recipe.parallel, train)
    cluster = describe(recipe.cluster)
    notes += check_layout(cluster, layout, model, recipe.parallel, train)
    whole = recipe.model_copy(update={"model": model, "train": train})
    return _Run(whole, Job.of(whole, cluster), notes)


def _asked(layout: Layout, ranks: Sequence[int], *, stages: bool) -> list[int]:
    for rank in ranks:
        if not 0 <= rank < layout.world:
            raise RecipeError(
                f"rank {rank} is not one of the {layout.world} ranks.",
                where="--rank",
                mend=f"Use 0 to {layout.world - 1}.",
            )
    places = [0, layout.pipeline // 2, layout.pipeline - 1] if stages else []
    found = [*ranks, *(layout.rank(place, 0, 0, 0) for place in places)]
    return sorted(set(found)) or [0]


def _rank_row(run: _Run, rank: int, advance: Callable[[], None]) -> dict[str, Any]:
    start = time.perf_counter()
    few, enough = _lengths(run, rank)
    on_gpu = run.job.cluster.name != LOCAL or torch.cuda.is_available()
    with fake_ranks(rank, run.job.layout.world) as found:
        placed = build_mesh(found, run.recipe.parallel)
        watch = Watch(placed, BLOCK_BYTES if on_gpu else 1)
        with FakeTensors(), gpu_kernels() if on_gpu else nullcontext(), watch.watching():
            training = begin(run.recipe, placed, watch)
            first = min(training.model.stages)
            training.model.stages[first].register_forward_hook(lambda *_: advance())
            training.take_step(few)  # the first step is also DTensor's, which works out shapes in it
            shorter = watch.collectives.sent.copy()
            before = _host_amounts(watch)
            training.take_step(enough, waiting=run.job.micro_batches - enough)
            sent = _whole_step(shorter, few, watch.collectives.sent, enough, run.job.micro_batches)
            host = _whole_step(before, few, _host_amounts(watch), enough, run.job.micro_batches)
            return _figures(run, rank, training, sent) | {
                "host": _host_row(host),
                "micro_batches": run.job.micro_batches,
                "micro_batches_run": enough,
                "collectives": [_message_row(message, amount, run.job.cluster) for message, amount in sent.items()],
                "all_reduces_per_layer": _per_layer(sent, training, run.job.micro_batches),
                "seconds": time.perf_counter() - start,
            }


def _figures(run: _Run, rank: int, training: Training, sent: Sent) -> dict[str, Any]:
    """Place, parameters and bytes."""
    model, storages = training.model, training.watch.storages
    own = sorted(model.stages)
    copies = {"token_embedding.weight"} if model.ranks.index("pipeline") and model.config.tie_embeddings else set()
    layers = [int(number) for stage in own for number in model.stages[stage].numbered_layers]
    spare = int(run.job.cluster.memory_bytes) - storages.peak_bytes
    return {
        "rank": rank,
        "node": run.job.cluster.node(rank),
        **run.job.layout.coordinates(rank)._asdict(),
        "stage": own[0],
        "stages": own,
        "layers": layers,
        "parameters": sum(master.value.numel() for master in model.masters),
        "stage_parameters": sum(m.parameter.numel() for m in model.masters if m.name not in copies),
        "bytes": {kind: storages.held(tensors) for kind, tensors in training.state().items()},
        "peak_bytes": storages.peak_bytes,
        "peak": storages.at_peak(),
        "fits": spare >= 0,
        "spare_bytes": spare,
    }


def _lengths(run: _Run, rank: int) -> tuple[int, int]:
    """Micro-batches of a shorter and of a longer step that stand for the whole one."""
    parallel, count, pipeline = run.recipe.parallel, run.job.micro_batches, run.job.layout.pipeline
    if pipeline == 1:
        return min(2, count), min(3, count)
    if parallel.schedule_file is not None:
        return min(2, count), count
    each = pipeline if parallel.schedule == "interleaved-1f1b" else 1
    place = run.job.layout.coordinates(rank).pipeline

    def held(micro_batches: int) -> int:
        return most_in_flight(parallel.schedule, place, pipeline, parallel.virtual_stages, micro_batches)

    most = held(count)
    fills = next(number for number in range(each, count + 1, each) if held(number) == most)
    return min(2 * each, count), min(max(fills + each, 3 * each), count)


def _host_amounts(watch: Watch) -> dict[str, Amount]:
    """Waits of the host by place, copies to the device, and gathers in fp32."""
    waits = {place: Amount(count) for place, count in watch.host.waits.items()}
    return waits | {COPIES: watch.host.copies, WIDE_GATHERS: watch.collectives.wide_gathers}


def _host_row(amounts: dict[str, Amount]) -> dict[str, Any]:
    waits = {place: each.count for place, each in amounts.items() if place not in (COPIES, WIDE_GATHERS)}
    return {"waits": waits} | {kind: asdict(amounts[kind]) for kind in (COPIES, WIDE_GATHERS)}


def _whole_step(
    shorter: Mapping[Key, Amount], few: int, longer: Mapping[Key, Amount], enough: int, count: int
) -> dict[Key, Amount]:
    """Messages of a step of `count` micro-batches, from one of `few` and one of `enough`."""
    if enough == count:
        return dict(longer)
    none = Amount()
    return {
        message: Amount(
            _line(shorter.get(message, none).count, few, amount.count, enough, count),
            _line(shorter.get(message, none).payload_bytes, few, amount.payload_bytes, enough, count),
        )
        for message, amount in longer.items()
    }


def _line(low: int, few: int, high: int, enough: int, count: int) -> int:
    grown, rest = divmod((high - low) * (count - enough), enough - few)
    assert not rest, "a step grows by the same messages with each round of micro-batches"
    return high + grown


def _message_row(message: Message, amount: Amount, cluster: Cluster) -> dict[str, Any]:
    return {
        "axis": message.axis,
        "what": message.what,
        "collective": message.collective,
        "pass": message.when,
        "group_size": len(message.ranks),
        "tier": cluster.tier_of(message.ranks).name,
        "count": amount.count,
        "payload_bytes": amount.payload_bytes,
        "ranks": list(message.ranks) if len(message.ranks) <= 64 else None,
    }


def _per_layer(sent: Sent, training: Training, micro_batches: int) -> dict[str, float]:
    """All-reduces of a layer for one micro-batch, by pass; none under sequence parallelism."""
    layers = sum(len(stage.numbered_layers) for stage in training.model.stages.values())
    found = {"forward": 0.0, "backward": 0.0, "recomputation": 0.0}
    for message, amount in sent.items():
        if message.what == "layers" and message.collective == "all_reduce":
            found[message.when] += amount.count / (layers * micro_batches)
    return found


def _parameters_of_stages(config: ModelConfig, count: int) -> int:
    """Parameters of all stages together, as they are cut from the model; stages that are alike are built once."""
    built: dict[tuple[int, bool, bool], int] = {}
    total = 0
    for stage, layers in enumerate(layers_of_stages(config, count)):
        alike = len(layers), stage == 0, stage == count - 1
        if alike not in built:
            built[alike] = _parameters_of_stage(config, stage, count)
        total += built[alike]
    return total


def _parameters_of_stage(config: ModelConfig, stage: int, count: int) -> int:
    """A tied embedding is the first stage's."""
    with torch.device("meta"):
        model: nn.Module = MODELS[config.family](config)
    keep_stage(model, stage, count)  # type: ignore[arg-type]  # MODELS are Transformers
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if stage == 0 or name != "token_embedding.weight")
