"""Times of a training step, asked for layouts: of a micro-batch, of the update, of the reduction, of whole steps.

The pieces are the real ones: the model at the asked width as `parallelize` makes it, its loss forward and
backward in the asked precision, and the optimizer step that trains (`parallel.take_step`, `parallel.update`); only the
number of layers may be smaller.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.parallel import (
    DistributedModel,
    Mesh,
    MicroBatch,
    Optimizer,
    build_mesh,
    compute_dtype,
    loss_weights,
    parallelize,
    take_step,
    update,
)
from megalith.planning.measuring.rates import best_seconds
from megalith.recipe import ModelConfig, ParallelConfig, TrainConfig

LONG_SECONDS = 1.5  # what takes longer is not repeated
REST_SECONDS = 0.1  # for the optimizer, and for the all-reduce
MOST_REDUCED_BYTES = 64 * 2**20  # a larger gradient is timed by its first part
PRODUCT_SIZE = 8192  # of a GPU's product
LEARNING_RATE, CLIP_NORM = 1e-6, 1.0


def time_micro_batch(question: dict[str, Any], ranks: Mesh) -> dict[str, list[float] | float]:
    """Seconds of one micro-batch at each asked depth (every repetition), of the update, and of the all-reduce.

    The first `data` ranks do it side by side, as data-parallel processes would. The last two are for the whole model:
    they are timed at the greatest asked depth and scaled by parameters.
    """
    config = ModelConfig.model_validate(question["model"])
    group = _group(question["data"]) if question["data"] > 1 else None
    batch = some_batch(config, question["micro_batch_size"])
    depths: list[int] = question["depths"]
    answer: dict[str, list[float] | float] = {}
    for depth in depths:
        model = _training(config.model_copy(update={"num_layers": depth}), question["precision"]).model
        work = partial(_forward_backward, model, batch)
        answer[str(depth)] = _time(work, question["seconds"] / len(depths), group)
    answer["update"], answer["all_reduce"] = _time_rest(
        config, max(depths), question["precision"], question["threads"], group
    )
    return answer


def time_steps(question: dict[str, Any], ranks: Mesh) -> dict[str, list[float]]:
    """Seconds of whole steps of the asked layout over all workers, at each asked number of micro-batches a rank."""
    config = ModelConfig.model_validate(question["model"])
    parallel = ParallelConfig.model_validate(question["parallel"])
    dtype = compute_dtype(question["precision"])
    on_gpu = ranks.device.type == "cuda"
    if on_gpu:
        torch.use_deterministic_algorithms(question["deterministic"])
    compiled = on_gpu and question["compile"] and not parallel.schedule.startswith("zb")
    model = parallelize(config, parallel, build_mesh(ranks, parallel), dtype=dtype, seed=0, compile_layers=compiled)
    optimizer = Optimizer(model.masters, TrainConfig())
    batch = some_batch(config, question["micro_batch_size"])

    def step(micro_batches: int) -> None:
        counted = [1000.0] * len(model.losses)
        take_step(
            model,
            optimizer,
            [batch] * micro_batches,
            counted,
            [0] * micro_batches,
            learning_rate=LEARNING_RATE,
            clip_norm=CLIP_NORM,
        )
        if on_gpu:
            torch.cuda.synchronize(ranks.device)

    group = dist.group.WORLD if ranks.count > 1 else None
    return {str(count): _time(partial(step, count), question["seconds"], group) for count in question["micro_batches"]}


def time_product(precision: str, device: torch.device) -> dict[str, float]:
    """FLOPs per second of the largest square products that still run at once: the best of several."""
    size = PRODUCT_SIZE if device.type == "cuda" else PRODUCT_SIZE // 32
    left, right = (torch.ones(size, size, dtype=compute_dtype(precision), device=device) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return {"flops_per_second": 2 * size**3 / best_seconds(multiply, REST_SECONDS)}


def saved_bytes(config: ModelConfig, precision: str) -> dict[str, float]:
    """Count the bytes that the forward pass saves: constant, and per layer, sequence, layer and sequence.

    They are counted from the storages that autograd saves, without weights, at 1 and 2 layers × 1 and 2 sequences.
    """
    kept = {
        (layers, sequences): _saved(config.model_copy(update={"num_layers": layers}), sequences, precision)
        for layers in (1, 2)
        for sequences in (1, 2)
    }
    both = kept[2, 2] - kept[2, 1] - kept[1, 2] + kept[1, 1]
    per_layer = kept[2, 1] - kept[1, 1] - both
    per_sequence = kept[1, 2] - kept[1, 1] - both
    return {
        "constant": kept[1, 1] - per_layer - per_sequence - both,
        "per_layer": per_layer,
        "per_sequence": per_sequence,
        "per_layer_and_sequence": both,
    }


def take_tiny_step() -> None:
    """Touch the pages of torch that any training touches: they are of the base, whatever the model."""
    config = ModelConfig(num_layers=1, hidden_size=64, num_heads=2, sequence_length=32, vocab_size=256)
    for precision in ("fp32", "bf16"):
        training = _training(config, precision)
        _forward_backward(training.model, some_batch(config, 1))
        training.model.reduce_gradients()
        _update(training)


@dataclass(frozen=True)
class _Training:
    model: DistributedModel
    optimizer: Optimizer


@lru_cache(maxsize=2)  # both depths of a question; all that were ever asked for may not fit the memory together
def _training(config: ModelConfig, precision: str) -> _Training:
    """A model with weights as training begins: larger ones make softmax meet denormals, which are slow."""
    model = parallelize(config, ParallelConfig(), Mesh(), dtype=compute_dtype(precision), seed=0)
    return _Training(model, Optimizer(model.masters, TrainConfig()))


def _update(training: _Training) -> None:
    update(training.model, training.optimizer, learning_rate=LEARNING_RATE, clip_norm=CLIP_NORM)


@cache
def _group(data: int) -> Any:
    """The first `data` ranks; made when it is first asked for, since each connection has a thread of its own."""
    return dist.new_group(list(range(data)), use_local_synchronization=True)


@cache
def _time_rest(config: ModelConfig, depth: int, precision: str, threads: int, group: Any) -> tuple[float, float]:
    """Seconds of zeroing and updating, and of the all-reduce, for the whole model; `threads` is for the cache."""
    training = _training(config.model_copy(update={"num_layers": depth}), precision)
    model = training.model

    def fill() -> None:  # else there would be nothing to clip
        for master in model.masters:
            assert master.value.grad is not None
            master.value.grad.fill_(1e-3)

    def rest() -> None:
        fill()
        _update(training)
        model.gradients.zero()

    timed, whole = sum(m.value.numel() for m in model.masters), parameters(config).total
    filling = min(_time(fill, REST_SECONDS / 4, group))
    update_seconds = max(0.0, min(_time(rest, REST_SECONDS, group)) - filling) * whole / timed
    if group is None:
        return update_seconds, 0.0
    gradient = torch.zeros(min(whole, MOST_REDUCED_BYTES // 4))
    reduce = partial(dist.all_reduce, gradient, group=group)
    return update_seconds, min(_time(reduce, REST_SECONDS, group)) * whole / gradient.numel()


def _time(work: Callable[[], object], seconds: float, group: Any) -> list[float]:
    """Seconds of each repetition after a first one: three, and more if they fit. A very long first one must do.

    The ranks of a group take as many.
    """
    start = time.perf_counter()
    work()
    first = time.perf_counter() - start
    repetitions = torch.tensor(0 if first > LONG_SECONDS else max(3, min(50, int(seconds / first))))
    if group is not None:
        dist.all_reduce(repetitions, op=dist.ReduceOp.MIN, group=group)
    times = []
    for _ in range(int(repetitions)):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times or [first]


def _forward_backward(model: DistributedModel, batch: MicroBatch) -> None:
    counted = [float(batch["targets"].numel())] * len(model.losses)
    model.forward_backward([batch], loss_weights(counted), [0])


def some_batch(config: ModelConfig, sequences: int) -> MicroBatch:
    """A micro-batch as training has it: every token of a gpt is predicted, of a bert one in seven."""
    shape = (sequences, config.sequence_length)
    tokens = torch.randint(config.vocab_size, shape)
    if config.family == "gpt":
        return {"tokens": tokens, "targets": torch.randint(config.vocab_size, shape)}
    return {
        "tokens": tokens,
        "targets": torch.where(torch.arange(shape[1]) % 7 == 0, tokens, -100),
        "segments": torch.zeros_like(tokens),
        "lengths": torch.full(shape[:1], shape[1]),
        "order": torch.zeros(shape[:1], dtype=torch.long),
    }


def _saved(config: ModelConfig, sequences: int, precision: str) -> int:
    """Bytes of the storages that autograd keeps after a forward pass, weights left out."""
    model = parallelize(config, ParallelConfig(), Mesh(), dtype=compute_dtype(precision), seed=0)
    (stage,) = model.stages.values()
    own = {parameter.untyped_storage().data_ptr() for parameter in stage.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = dict(some_batch(config, sequences))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = stage(batch.pop("tokens"), **batch)
    del loss  # held until here, so that no storage was freed and its address used again
    return sum(storages.values())
