"""Workers that answer from a formula, so that a search can be told what it will find."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from megalith.planning import plan
from megalith.planning.measuring import layout_trials, local_layouts, verbs
from megalith.planning.measuring.rates import Rates
from megalith.planning.measuring.workers import SlowAnswerError
from megalith.precision import Precision

RATES: dict[Precision, float] = {"fp32": 1e12, "bf16": 2e12}
Cost = Callable[[Mapping[str, Any]], float]
"""Seconds of one micro-batch for a question; `question["depth"]` is the depth that is timed."""


class FakeWorkers:
    base_bytes = 200_000_000

    def __init__(self, cost: Cost, slow: Callable[[Mapping[str, Any]], bool]) -> None:
        self.cost, self.slow = cost, slow
        self.asked: list[Mapping[str, Any]] = []

    def ask(self, question: Mapping[str, Any], ranks: int = 1, *, seconds: float) -> list[dict[str, Any]]:
        assert seconds >= 20  # no answer is waited for without a limit, nor given up hastily
        if question["ask"] == "memory":
            return [{"constant": 0.0, "per_layer": 0.0, "per_sequence": 1e6, "per_layer_and_sequence": 2e6}]
        self.asked.append(question)
        if self.slow(question):
            raise SlowAnswerError("not within the limit.")
        seconds = {str(depth): [self.cost({**question, "depth": depth})] * 4 for depth in question["depths"]}
        return [{**seconds, "update": 0.001, "all_reduce": 0.002 if ranks > 1 else 0.0}] * ranks


def install(
    monkeypatch: pytest.MonkeyPatch,
    cost: Cost,
    *,
    cores: int = 4,
    slow: Callable[[Mapping[str, Any]], bool] = lambda question: False,
) -> FakeWorkers:
    """Let searches ask these workers, on a machine of `cores` cores and 16 GB; `slow` questions take too long."""
    workers = FakeWorkers(cost, slow)

    @contextlib.contextmanager
    def start(_: int) -> Iterator[FakeWorkers]:
        yield workers

    stand_in(monkeypatch, start, cores)
    return workers


def stand_in(monkeypatch: pytest.MonkeyPatch, start: Callable[[int], object], cores: int) -> None:
    """Have `start` start the workers, and products be as fast as RATES, on a machine of `cores` cores and 16 GB."""
    rates = Rates(RATES, {})
    for module in (local_layouts, plan, verbs):
        monkeypatch.setattr(module, "start_workers", start)
        monkeypatch.setattr(module, "measure_rates", lambda threads: rates)
    for module in (local_layouts, layout_trials):
        monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(layout_trials, "total_memory_bytes", lambda: 16 * 10**9)
