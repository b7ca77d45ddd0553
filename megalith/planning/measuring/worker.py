"""A process that times pieces of a training step for the planner, until it is asked no more.

Run as `python -m megalith.planning.measuring.worker RANK SIZE STORE PARENT`. A question is one JSON line on standard
input, its answer one on standard output. The process ends when its parent does.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist
import torch.utils.tensorboard  # training imports it too, and a worker's memory stands for training's

import megalith.tokens  # noqa: F401 - for its memory, as tensorboard above
from megalith.kernels import use
from megalith.parallel import Mesh, compute_deterministically
from megalith.parallel.mesh import backend_of, own_device
from megalith.planning.measuring import block_times, step_times
from megalith.processes import die_with, keep_freed_memory
from megalith.recipe import ModelConfig

PATIENCE = timedelta(seconds=120)  # with ranks that do not answer

Answer = Callable[[dict[str, Any]], object]

ANSWERS: Mapping[str, Callable[[dict[str, Any], Mesh], object]] = {
    "memory": lambda asked, ranks: step_times.saved_bytes(ModelConfig(**asked["model"]), asked["precision"]),
    "micro-batch": step_times.time_micro_batch,
    "steps": step_times.time_steps,
    "product": lambda asked, ranks: step_times.time_product(asked["precision"], ranks.device),
    "block": block_times.time_block,
    "messages": block_times.time_messages,
    "pipeline": block_times.time_pipeline,
    "rates": block_times.time_rates,
}
"""By what is asked."""


def serve(prepare: Callable[[Mesh], Answer]) -> None:
    """Be the worker that the command line names: RANK SIZE STORE PARENT; `prepare` returns the answering function."""
    rank, size, store, parent = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    die_with(parent)
    keep_freed_memory()  # as training does, and what follows
    device = own_device()
    if device.type == "cpu":
        compute_deterministically()
    if size > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        dist.init_process_group(
            backend_of(device), init_method=f"file://{store}", rank=rank, world_size=size, timeout=PATIENCE
        )
    answer = prepare(Mesh(rank, size, device=device))
    _say({"base_bytes": psutil.Process().memory_info().rss})
    for line in sys.stdin:
        question = json.loads(line)
        use(question.pop("kernels", {}))  # those that training would use
        _say(answer(question))


def prepare(ranks: Mesh) -> Answer:
    """Take a tiny step, which touches the memory that any training touches, and return what answers."""
    step_times.take_tiny_step()

    def answer(question: dict[str, Any]) -> object:
        torch.set_num_threads(question.get("threads", torch.get_num_threads()))
        return ANSWERS[question["ask"]](question, ranks)

    return answer


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(prepare)
