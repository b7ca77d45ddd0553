"""Times of blocks of a training step, of messages and of this machine's operations, asked to describe the machine.

All workers do the same at the same time, as the ranks of a layout do: a block is a model of a few layers at the asked
width, split over tensor-parallel or ZeRO groups of neighbours, of which there are as many side by side as the workers
make. None of this is a layout's own step: neither its depth, nor its micro-batches, nor its pipeline.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from megalith.kernels import linear
from megalith.parallel import (
    DistributedModel,
    Mesh,
    MicroBatch,
    Optimizer,
    build_mesh,
    compute_dtype,
    parallelize,
    update,
)
from megalith.parallel.mesh import Axis
from megalith.planning.measuring.block_settings import TOY
from megalith.planning.measuring.step_times import CLIP_NORM, LEARNING_RATE, LONG_SECONDS, some_batch
from megalith.recipe import ModelConfig, ParallelConfig, TrainConfig
from megalith.tokens import TrainingWindows

FEWEST, MOST = 3, 40  # repetitions
IN_A_ROW = 6  # micro-batches of a repetition: about as long as a step
STREAM_TOKENS = 2**20
LARGE_BYTES = 2**20  # of a message; smaller ones come several in a row

arranged = cache(build_mesh)  # each grid opens connections, whose threads look around a hundred times a second

Times = dict[str, list[float]]
"""Seconds of every repetition, by what was done."""


def time_block(question: dict[str, Any], ranks: Mesh) -> Times:
    """Reading, forward, backward and update of the asked model, and the embedding alone where it is not sharded."""
    config = ModelConfig.model_validate(question["model"])
    model = _model(config, ParallelConfig.model_validate(question["parallel"]), question["precision"], ranks)
    (stage,) = model.stages.values()
    batch: MicroBatch = some_batch(config, question["micro_batch_size"])
    tokens, rest = batch["tokens"], {name: value for name, value in batch.items() if name != "tokens"}
    stream = np.arange(STREAM_TOKENS, dtype=np.uint16) % config.vocab_size
    windows = TrainingWindows(stream, config.sequence_length, seed=0)
    kept: list[Tensor] = []
    sharded = question["parallel"]["zero"] > 0

    def begin() -> None:
        kept.clear()
        model.gradients.before_micro_batch(last=sharded)  # whole gradients are reduced for all blocks together

    def forward() -> None:
        kept.append(stage(tokens, **rest))

    def backward() -> None:
        torch.autograd.backward((kept[0] * 1e-3).sum())

    def embed() -> None:
        kept.append(stage.embed(tokens).to(stage.activation_dtype))

    def unembed() -> None:
        torch.autograd.backward(kept[0], torch.ones_like(kept[0]))

    seconds = question["seconds"]

    def read() -> None:
        kept.extend(torch.from_numpy(each) for each in windows.batch(0, question["micro_batch_size"]))

    times = _time(begin, {"forward": forward, "backward": backward}, seconds, ranks, in_a_row=IN_A_ROW)
    model.gradients.reduce()  # ZeRO's gradients are in place only then
    times |= _time_update(model, sharded, seconds / 4, ranks)
    times |= _time(kept.clear, {"read": read}, seconds / 8, ranks)
    if not sharded:
        times |= _time(kept.clear, {"embed": embed, "unembed": unembed}, seconds / 4, ranks)
    kept.clear()
    return times


def time_messages(question: dict[str, Any], ranks: Mesh) -> Times:
    """All-reduces over groups of `group_size` neighbours at once, and sends between neighbours, by size in bytes."""
    mesh = arranged(ranks, ParallelConfig(tensor=question["group_size"])).submesh("tensor")
    group, members = mesh.get_group(), dist.get_process_group_ranks(mesh.get_group())
    times: Times = {}
    for size in question["bytes"]:
        tensor = torch.zeros(max(1, size // 4))
        times |= _time(
            lambda: None,
            {f"all_reduce {size}": partial(dist.all_reduce, tensor, group=group)},
            question["seconds"],
            ranks,
            in_a_row=IN_A_ROW if size < LARGE_BYTES else 1,
        )
        if len(members) == 2:
            bounce = partial(_there_and_back, tensor, members, ranks.rank)
            times |= {
                f"send {size}": [seconds / 2 for seconds in found]
                for found in _time(
                    lambda: None, {"send": bounce}, question["seconds"], ranks, in_a_row=IN_A_ROW
                ).values()
            }
    return times


def time_pipeline(question: dict[str, Any], ranks: Mesh) -> Times:
    """A toy pipeline, of which there are as many side by side as the workers make, at two numbers of micro-batches.

    What a micro-batch adds to it beyond its stages' work is what the pipeline's runner takes, messages included.
    """
    stages = question["pipeline"]
    config = TOY.model_copy(update={"num_layers": stages})
    parallel = ParallelConfig(pipeline=stages, data=ranks.count // stages)
    whole = parallelize(config, parallel, arranged(ranks, parallel), dtype=torch.float32, seed=0)
    batch = some_batch(config, 1)
    few, many = 2 * stages, 6 * stages

    def step(count: int) -> None:
        whole.gradients.zero()
        whole.forward_backward([batch] * count, [1e-3], [0] * count)
        whole.gradients.reduce()  # the same for few and for many

    times = _time(lambda: None, {"few": partial(step, few), "many": partial(step, many)}, question["seconds"], ranks)
    return times | {"micro_batches": [float(many - few)]}


def time_rates(question: dict[str, Any], ranks: Mesh) -> Times:
    """Figures by which processors differ: products, a copy, an addition of one number."""
    times: Times = {}
    for m, k, n in question["products"]:
        for name in ("fp32", "bf16"):
            x, weight = torch.ones(m, k, dtype=compute_dtype(name)), torch.ones(n, k, dtype=compute_dtype(name))
            times |= _time(
                lambda: None, {f"{name} {m}x{k}x{n}": partial(linear, x, weight)}, question["seconds"], ranks
            )
    source = torch.ones(question["copied_bytes"] // 4)
    copy = torch.empty_like(source)
    one = torch.ones(1)
    works: dict[str, Callable[[], object]] = {
        "copy": lambda: copy.copy_(source),
        "add 1000": lambda: [one.add_(1.0) for _ in range(1000)],
    }
    return times | _time(lambda: None, works, question["seconds"], ranks)


@dataclass(frozen=True)
class _Copy(Mesh):
    """One of several groups side by side that have nothing to do with each other: a model without a pipeline."""

    def size(self, axis: Axis) -> int:
        return 1 if axis == "pipeline" else super().size(axis)

    def index(self, axis: Axis) -> int:
        return 0 if axis == "pipeline" else super().index(axis)


def _model(config: ModelConfig, parallel: ParallelConfig, precision: str, ranks: Mesh) -> DistributedModel:
    """The block over this worker's group: the copies take the place of pipeline ranks in the mesh."""
    group = (parallel.tensor or 1) * (parallel.data or 1)
    whole = arranged(ranks, parallel.model_copy(update={"pipeline": ranks.count // group}))
    copy = _Copy(whole.rank, whole.count, whole.device_mesh, whole.device)
    return parallelize(config, parallel, copy, dtype=compute_dtype(precision), seed=0)


def _time_update(model: DistributedModel, sharded: bool, seconds: float, ranks: Mesh) -> Times:
    """The end of a step, which clips, and the zeroing of the gradients, which ZeRO does without."""
    optimizer = Optimizer(model.masters, TrainConfig())

    def fill() -> None:
        for master in model.masters:
            if master.value.grad is not None:
                master.value.grad.fill_(1e-3)

    def move() -> None:
        update(model, optimizer, learning_rate=LEARNING_RATE, clip_norm=CLIP_NORM)
        if not sharded:
            model.gradients.zero()

    return _time(fill, {"update": move}, seconds, ranks)


def _there_and_back(tensor: Tensor, members: list[int], rank: int) -> None:
    first, second = members
    if rank == first:
        dist.send(tensor, second)
        dist.recv(tensor, second)
    else:
        dist.recv(tensor, first)
        dist.send(tensor, first)


def _time(
    begin: Callable[[], object],
    works: dict[str, Callable[[], object]],
    seconds: float,
    ranks: Mesh,
    *,
    in_a_row: int = 1,
) -> Times:
    """Seconds of each of the works, done one after another; all workers begin each repetition together.

    A repetition does them as often as `in_a_row` says and counts their mean: what disturbs a long step now and then
    is to disturb a repetition alike.
    """
    first = 0.0
    for _ in range(2):  # the first allocates
        _meet(ranks)
        first = sum(_once(begin, works).values())
    repetitions = max(FEWEST, min(MOST, int(seconds / max(in_a_row * first, 1e-9)))) if first < LONG_SECONDS else 1
    times: Times = {name: [] for name in works}
    for _ in range(round(_meet(ranks, repetitions) / ranks.count)):
        _meet(ranks)
        found = [_once(begin, works) for _ in range(in_a_row)]
        for name in works:
            times[name].append(statistics.fmean(each[name] for each in found))
    return times


def _once(begin: Callable[[], object], works: dict[str, Callable[[], object]]) -> dict[str, float]:
    begin()
    seconds = {}
    for name, work in works.items():
        start = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - start
    return seconds


def _meet(ranks: Mesh, number: float = 0.0) -> float:
    """Wait for all workers; the sum of their numbers."""
    return ranks.sum(number)[0]
