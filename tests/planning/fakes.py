"""Workers that answer from a formula, so that a search can be told what it will find."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from megalith.planning import layouts

RATES = {"fp32": 1e12, "bf16": 2e12}
Cost = Callable[[Mapping[str, Any]], float]
"""Seconds of one micro-batch for a question; `question["depth"]` is the depth that is timed."""


class FakeWorkers:
    base_bytes = 200_000_000

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.asked: list[Mapping[str, Any]] = []

    def ask(self, question: Mapping[str, Any], ranks: int = 1) -> list[dict[str, Any]]:
        if question["ask"] == "memory":
            return [{"constant": 0.0, "per_layer": 0.0, "per_sequence": 1e6, "per_layer_and_sequence": 2e6}]
        self.asked.append(question)
        seconds = {str(depth): [self.cost({**question, "depth": depth})] * 4 for depth in question["depths"]}
        return [{**seconds, "optimizer": 0.001, "all_reduce": 0.002 if ranks > 1 else 0.0}] * ranks


def install(monkeypatch: pytest.MonkeyPatch, cost: Cost, *, cores: int = 4) -> FakeWorkers:
    """Let searches ask these workers, on a machine of `cores` cores and 16 GB."""
    workers = FakeWorkers(cost)

    @contextlib.contextmanager
    def start(_: int) -> Iterator[FakeWorkers]:
        yield workers

    monkeypatch.setattr(layouts, "start_workers", start)
    monkeypatch.setattr(layouts, "usable_cores", lambda: cores)
    monkeypatch.setattr(layouts, "total_memory_bytes", lambda: 16 * 10**9)
    return workers
