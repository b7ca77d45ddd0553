"""A worker that times pieces of a training step: run as `python -m megalith.planning.probe RANK SIZE STORE PARENT`.

It reads one JSON question a line from standard input and answers each with one JSON line on standard output. The pieces
are the real ones, put together as the training loop does: `megalith.model.GPT` at the asked width, its loss forward and
backward under the asked precision, `megalith.parallel.Gradients` with their norm and clipping, AdamW, and the
all-reduce over gloo; only the number of layers may be smaller. The worker ends when its parent does.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # before torch is imported

import psutil
import torch
import torch.distributed as dist
import torch.utils.tensorboard  # training imports it too, and the memory of a worker stands for training's
from torch import Tensor

import megalith.tokens  # noqa: F401 - for its memory, as tensorboard above
from megalith.arithmetic import parameters
from megalith.machine import compute_deterministically
from megalith.model import GPT, initialise
from megalith.parallel import Gradients
from megalith.processes import die_with
from megalith.recipe import ModelConfig

LONG_SECONDS = 1.5  # what takes longer is not repeated
REST_SECONDS = 0.1  # for the optimizer, and for the all-reduce
MOST_REDUCED_BYTES = 64 * 2**20  # a larger gradient is timed by its first part


def main(rank: int, size: int, store: str, parent: int) -> None:
    """Answer questions until standard input ends."""
    die_with(parent)
    compute_deterministically()  # as training does
    groups: dict[int, Any] = {}
    if size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
        )
        groups = {data: dist.new_group(list(range(data))) for data in range(2, size + 1)}
    _take_tiny_step()
    _answer({"base_bytes": psutil.Process().memory_info().rss})
    for line in sys.stdin:
        question = json.loads(line)
        if question["ask"] == "memory":
            _answer(saved_bytes(ModelConfig.model_validate(question["model"]), question["precision"]))
        else:
            _answer(time_step(question, groups.get(question["data"])))


def time_step(question: dict[str, Any], group: Any) -> dict[str, list[float] | float]:
    """Seconds of one micro-batch at each asked depth (every repetition), of the optimizer, and of the all-reduce.

    The last two are for the whole model: they are timed at the greatest asked depth and scaled by parameters.
    """
    config = ModelConfig.model_validate(question["model"])
    torch.set_num_threads(question["threads"])
    tokens = torch.randint(config.vocab_size, (question["micro_batch_size"], config.sequence_length + 1))
    depths: list[int] = question["depths"]
    answer: dict[str, list[float] | float] = {}
    for depth in depths:
        model = _training(config.model_copy(update={"num_layers": depth})).model
        work = partial(_forward_backward, model, tokens)
        with _precision(question["precision"]):  # around all of them: the cast weights are kept, as in a step
            answer[str(depth)] = _time(work, question["seconds"] / len(depths), group)
    answer["optimizer"], answer["all_reduce"] = _time_rest(config, max(depths), question["threads"], group)
    return answer


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
    tokens = torch.zeros(1, 33, dtype=torch.long)
    for precision in ("fp32", "bf16"):
        with _precision(precision):
            _forward_backward(_training(config).model, tokens)
    _training(config).optimizer.step()


@dataclass(frozen=True)
class _Training:
    model: GPT
    gradients: Gradients
    optimizer: torch.optim.AdamW


@cache
def _training(config: ModelConfig) -> _Training:
    model = GPT(config)
    initialise(model, seed=0)  # torch's own weights give logits so large that softmax meets denormals, which are slow
    gradients = Gradients(model.parameters())
    return _Training(model, gradients, torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True))


@cache
def _time_rest(config: ModelConfig, depth: int, threads: int, group: Any) -> tuple[float, float]:
    """Seconds of zeroing, norm, clipping and AdamW, and of the all-reduce, for the whole model."""
    training = _training(config.model_copy(update={"num_layers": depth}))

    def update() -> None:
        training.gradients.clip(training.gradients.norm(), 1.0)
        training.optimizer.step()
        training.gradients.zero()

    timed, whole = training.gradients.flat.numel(), parameters(config).total
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


def _forward_backward(model: GPT, tokens: Tensor) -> None:
    loss = model.loss(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
    with torch.autocast("cpu", enabled=False):
        torch.autograd.backward(loss)


def _precision(name: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16")


def _saved(config: ModelConfig, sequences: int, precision: str) -> int:
    """Bytes of the storages that autograd keeps after a forward pass, weights left out."""
    model = GPT(config)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(config.vocab_size, (sequences, config.sequence_length + 1))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with _precision(precision), hooks:
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    del loss  # held until here, so that no storage was freed and its address used again
    return sum(storages.values())


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
