"""Simulated accelerators: a machine that says it has them, and workers that answer as if they ran on them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from megalith import machine
from megalith.errors import ResourceError
from megalith.planning import plan
from megalith.planning.measuring import local_layouts, verbs
from megalith.recipe import ParallelConfig

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": int(79.1 * 2**30), "bf16": True}
TURING = {"name": "NVIDIA GeForce RTX 2080 Ti", "memory_bytes": 11 * 2**30, "bf16": False}
UNKNOWN = {"name": "Zeta Cardinal 9", "memory_bytes": 24 * 2**30, "bf16": True}

Cost = Callable[[ParallelConfig, Mapping[str, Any]], float]
"""Seconds of a micro-batch in a layout, for a question."""


class Workers:
    """As many as were asked for; each tells the same. A layout for which `cost` is None does not fit."""

    def __init__(self, cost: Callable[[ParallelConfig, Mapping[str, Any]], float | None]) -> None:
        self.cost = cost
        self.asked: list[Mapping[str, Any]] = []
        self.processes: list[int] = []
        self.base_bytes = 10**9

    def restart(self, ranks: int | None = None) -> None:
        self.processes = list(range(ranks or len(self.processes)))

    def ask(self, question: Mapping[str, Any], ranks: int = 1, *, seconds: float) -> list[dict[str, Any]]:
        self.asked.append(question)
        if question["ask"] == "product":
            return [{"flops_per_second": 50e12}]
        assert question["ask"] == "steps", "accelerators are asked for whole steps alone"
        assert ranks == len(self.processes), "every worker of a process group has its part in a step"
        parallel = ParallelConfig.model_validate(question["parallel"])
        each = self.cost(parallel, question)
        if each is None:
            raise ResourceError("CUDA out of memory", mend="")
        return [{str(count): [0.001 + count * each] * 4 for count in question["micro_batches"]}] * ranks


def simulate(
    monkeypatch: pytest.MonkeyPatch,
    card: Mapping[str, Any],
    count: int,
    cost: Callable[[ParallelConfig, Mapping[str, Any]], float | None] = lambda parallel, question: 0.01,
) -> Workers:
    """Have this machine say that it has `count` such cards, and workers answer by `cost`; CPUs must not be measured."""
    monkeypatch.setattr(machine, "_cards", lambda: [dict(card)] * count)
    workers = Workers(cost)

    @contextlib.contextmanager
    def start(ranks: int) -> Iterator[Workers]:
        workers.restart(ranks)
        yield workers

    def refuse(threads: int) -> None:
        raise AssertionError("the processor's products decide nothing here")

    for module in (local_layouts, plan, verbs):
        monkeypatch.setattr(module, "start_workers", start)
        monkeypatch.setattr(module, "measure_rates", refuse)
    return workers
