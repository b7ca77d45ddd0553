"""A worker of plan_cpu.py: takes the training loop's own steps, `python -m plan_cpu_worker RANK SIZE STORE PARENT`.

Each line on standard input asks for some more steps of a layout; what has been begun is kept, and goes on.
"""

import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import begin

from megalith.parallel import Mesh
from megalith.planning.measuring.worker import Answer, serve
from megalith.recipe import Recipe
from megalith.training.data import Batch, batches
from megalith.training.run_state import Run
from megalith.training.step import take_step

WARM_SECONDS = 1.0  # a process that has waited for its turn is slow for about as long
FEWEST = 5  # steps of a turn


@dataclass
class _Begun:
    run: Run
    plan: Iterator[Batch]


def prepare(ranks: Mesh) -> Answer:
    """The function that answers the questions of `plan_cpu`."""
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    begun: dict[str, _Begun] = {}

    def answer(asked: dict[str, Any]) -> dict[str, list[float]]:
        torch.set_num_threads(asked["threads"])
        if asked["layout"] not in begun:
            begun[asked["layout"]] = _begin(asked, ranks)
        return {"seconds": _steps(begun[asked["layout"]], asked["seconds"])}

    return answer


def _begin(asked: dict[str, Any], ranks: Mesh) -> _Begun:
    recipe = Recipe.model_validate(asked["recipe"])
    plan = batches(recipe.train, asked["recipe"]["model"]["sequence_length"])
    return _Begun(begin(recipe, Path(asked["tokens"]), ranks), plan)


def _steps(begun: _Begun, seconds: float) -> list[float]:
    """Seconds of each of the next steps on this rank: as many as fit, after some that do not count."""
    spent, warm = 0.0, 0
    while spent < WARM_SECONDS or warm < 2:  # the first step allocates
        each = _step(begun)
        spent += _mean(begun, each)
        warm += 1
    count = max(FEWEST, round(seconds / _mean(begun, each)))
    return [_step(begun) for _ in range(count)]


def _step(begun: _Begun) -> float:
    start = time.perf_counter()
    take_step(begun.run, next(begun.plan))
    return time.perf_counter() - start


def _mean(begun: _Begun, seconds: float) -> float:
    """Over the ranks, so that all of them take as many steps."""
    ranks = begun.run.ranks
    return ranks.sum(seconds)[0] / ranks.count


if __name__ == "__main__":
    serve(prepare)
