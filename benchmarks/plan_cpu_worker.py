"""A worker of plan_cpu.py: takes the training loop's own steps, `python -m plan_cpu_worker RANK SIZE STORE PARENT`.

Each line on standard input asks for some more steps of a layout; what has been begun is kept, and goes on.
"""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # before torch is imported

import torch
import torch.distributed as dist
from common import begin

from megalith.machine import compute_deterministically
from megalith.parallel import Ranks
from megalith.processes import die_with, keep_freed_memory
from megalith.recipe import Recipe
from megalith.training.schedule import Batch, batches
from megalith.training.state import Run
from megalith.training.step import take_step

WARM = 2  # steps that allocate memory


@dataclass
class _Begun:
    run: Run
    plan: Iterator[Batch]


def main(rank: int, size: int, store: str, parent: int) -> None:
    """Take steps until standard input ends."""
    die_with(parent)
    keep_freed_memory()
    compute_deterministically()
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    begun: dict[str, _Begun] = {}
    _answer({"base_bytes": 0})
    for line in sys.stdin:
        asked = json.loads(line)
        torch.set_num_threads(asked["threads"])
        if asked["layout"] not in begun:
            begun[asked["layout"]] = _begin(asked, Ranks(rank, size))
        _answer({"seconds": list(_steps(begun[asked["layout"]], asked["steps"], size))})


def _begin(asked: dict[str, Any], ranks: Ranks) -> _Begun:
    recipe = Recipe.model_validate(asked["recipe"])
    plan = batches(recipe.train, asked["recipe"]["model"]["sequence_length"])
    started = _Begun(begin(recipe, Path(asked["tokens"]), ranks), plan)
    for _ in range(WARM):
        take_step(started.run, next(plan))
    return started


def _steps(begun: _Begun, steps: int, size: int) -> Iterator[float]:
    """Seconds of each of the next steps, on this rank."""
    if size > 1:
        dist.barrier()
    for _ in range(steps):
        start = time.perf_counter()
        take_step(begun.run, next(begun.plan))
        yield time.perf_counter() - start


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
