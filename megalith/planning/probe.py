"""A worker that times pieces of a training step: run as `python -m megalith.planning.probe RANK SIZE STORE PARENT`.

The pieces are the real ones, put together as the training loop does: the model at the asked width as
`megalith.parallel.spread` gives it, its loss forward and backward in the asked precision, the gradients' norm and
clipping, AdamW, and the all-reduce over gloo; only the number of layers may be smaller.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import torch
import torch.distributed as dist
import torch.utils.tensorboard  # training imports it too, and the memory of a worker stands for training's
from torch import Tensor

import megalith.tokens  # noqa: F401 - for its memory, as tensorboard above
from megalith.arithmetic import parameters
from megalith.parallel import MicroBatch, Ranks, SpreadModel, arrange, clip_factor, spread
from megalith.planning.answering import LONG_SECONDS, TYPES, Answer, serve
from megalith.recipe import ModelConfig, ParallelConfig

REST_SECONDS = 0.1  # for the optimizer, and for the all-reduce
MOST_REDUCED_BYTES = 64 * 2**20  # a larger gradient is timed by its first part


def prepare(ranks: Ranks) -> Answer:
    """What answers `layouts` and `given`, once a step has been taken."""
    groups = {data: dist.new_group(list(range(data))) for data in range(2, ranks.count + 1)}
    _take_tiny_step()

    def answer(question: dict[str, Any]) -> object:
        if question["ask"] == "layout":
            return time_layout(question, ranks)
        if question["ask"] == "memory":
            return saved_bytes(ModelConfig.model_validate(question["model"]), question["precision"])
        return time_step(question, groups.get(question["data"]))

    return answer


def time_step(question: dict[str, Any], group: Any) -> dict[str, list[float] | float]:
    """Seconds of one micro-batch at each asked depth (every repetition), of the optimizer, and of the all-reduce.

    The last two are for the whole model: they are timed at the greatest asked depth and scaled by parameters.
    """
    config = ModelConfig.model_validate(question["model"])
    torch.set_num_threads(question["threads"])
    batch = some_batch(config, question["micro_batch_size"])
    depths: list[int] = question["depths"]
    answer: dict[str, list[float] | float] = {}
    for depth in depths:
        model = _training(config.model_copy(update={"num_layers": depth}), question["precision"]).model
        work = partial(_forward_backward, model, batch)
        answer[str(depth)] = _time(work, question["seconds"] / len(depths), group)
    answer["optimizer"], answer["all_reduce"] = _time_rest(
        config, max(depths), question["precision"], question["threads"], group
    )
    return answer


def time_layout(question: dict[str, Any], ranks: Ranks) -> dict[str, list[float]]:
    """Seconds of whole steps of the asked layout over all workers, at each asked number of micro-batches a rank."""
    config = ModelConfig.model_validate(question["model"])
    parallel = ParallelConfig.model_validate(question["parallel"])
    torch.set_num_threads(question["threads"])
    model = spread(config, parallel, arrange(ranks, parallel), dtype=TYPES[question["precision"]], seed=0)
    optimizer = torch.optim.AdamW([m.value for m in model.masters], lr=1e-6, fused=True)
    batch = some_batch(config, question["micro_batch_size"])

    def step(micro_batches: int) -> None:
        model.gradients.zero()
        model.forward_backward([batch] * micro_batches, [1e-3] * len(model.losses), [0] * micro_batches)
        model.reduce_gradients()
        model.gradients.scale(clip_factor(model.gradient_norm(), 1.0))
        optimizer.step()
        model.publish()

    group = dist.group.WORLD if ranks.count > 1 else None
    return {str(count): _time(partial(step, count), question["seconds"], group) for count in question["micro_batches"]}


def saved_bytes(config: ModelConfig, precision: str) -> dict[str, float]:
    """What the forward pass keeps for the backward pass: constant, and per layer, sequence, layer and sequence.

    Counted, not estimated: the storages that autograd saves, weights left out, at 1 and 2 layers × 1 and 2 sequences.
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


def _take_tiny_step() -> None:
    """Touch the pages of torch that any training touches: they are of the base, whatever the model."""
    config = ModelConfig(num_layers=1, hidden_size=64, num_heads=2, sequence_length=32, vocab_size=256)
    for precision in ("fp32", "bf16"):
        training = _training(config, precision)
        _forward_backward(training.model, some_batch(config, 1))
        training.model.reduce_gradients()
        training.optimizer.step()


@dataclass(frozen=True)
class _Training:
    model: SpreadModel
    optimizer: torch.optim.AdamW


@lru_cache(maxsize=2)  # both depths of a question; all that were ever asked for may not fit the memory together
def _training(config: ModelConfig, precision: str) -> _Training:
    """A model with weights as training begins: larger ones make softmax meet denormals, which are slow."""
    model = spread(config, ParallelConfig(), Ranks(), dtype=TYPES[precision], seed=0)
    return _Training(model, torch.optim.AdamW([m.value for m in model.masters], lr=1e-6, fused=True))


@cache
def _time_rest(config: ModelConfig, depth: int, precision: str, threads: int, group: Any) -> tuple[float, float]:
    """Seconds of zeroing, norm, clipping and AdamW, and of the all-reduce, for the whole model."""
    training = _training(config.model_copy(update={"num_layers": depth}), precision)

    def update() -> None:
        training.model.gradients.scale(clip_factor(training.model.gradient_norm(), 1.0))
        training.optimizer.step()
        training.model.publish()
        training.model.gradients.zero()

    timed, whole = sum(m.value.numel() for m in training.model.masters), parameters(config).total
    optimizer_seconds = min(_time(update, REST_SECONDS, group)) * whole / timed
    if group is None:
        return optimizer_seconds, 0.0
    gradient = torch.zeros(min(whole, MOST_REDUCED_BYTES // 4))
    reduce = partial(dist.all_reduce, gradient, group=group)
    return optimizer_seconds, min(_time(reduce, REST_SECONDS, group)) * whole / gradient.numel()


def _time(work: Callable[[], object], seconds: float, group: Any) -> list[float]:
    """Seconds of each repetition after a first one: three, and more if they fit. A very long first one must do.

    The ranks of a group keep step.
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


def _forward_backward(model: SpreadModel, batch: MicroBatch) -> None:
    model.forward_backward([batch], [1 / batch["targets"].numel()] * len(model.losses), [0])


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
    model = spread(config, ParallelConfig(), Ranks(), dtype=TYPES[precision], seed=0)
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


if __name__ == "__main__":
    serve(prepare)
