"""A rank that computes slower than the others: all wait for it in every step, and none of them says so.

Measured is what a rank computes between two collectives, so that its waiting for others does not count: the whole of
forward and backward pass where no collective lies within them (data parallel, ZeRO-1), else the core of each layer's
attention, which is the same work on every rank and stage. On a GPU events mark the places, and are read when the step
has been waited for anyway; what the ranks measured travels with the sum that asks whether to stop.
Compiled layers under any but data parallelism or ZeRO-2 and 3 are one piece, and are not measured.
"""

import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from megalith.model.attention import Attention
from megalith.parallel import DistributedModel
from megalith.training.profiling import PhaseClock

FIRST_STEPS = 3  # not typical
WINDOW = 16
"""Steps over which a rank is compared."""
SLOWER, NEARLY_ALWAYS = 1.2, 1.1
"""The median ratio to the others from which a rank is slow, and what three of four steps must show."""
_COMPUTING = "forward_backward"


class Pace:
    """The seconds that this rank computes in a step."""

    def __init__(self, model: DistributedModel, clock: PhaseClock, *, compiled: bool) -> None:
        self._clock, self._rank, self._count = clock, model.ranks.rank, model.ranks.count
        self._is_on_gpu = model.ranks.device.type == "cuda"
        parallel = model.parallel
        self._takes_all = (parallel.tensor or 1) == (parallel.pipeline or 1) == (
            parallel.context or 1
        ) == 1 and parallel.zero < 2
        self._marks: list[tuple[Any, Any]] = []
        self._began: Any = None
        if self._count > 1 and not self._takes_all and not compiled:
            for module in (each for stage in model.stages.values() for each in stage.modules()):
                if isinstance(module, Attention):
                    module.core.register_forward_pre_hook(lambda *_: self._begin())
                    module.core.register_forward_hook(lambda *_: self._end())

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """A phase of the step, on the clock too."""
        with self._clock(phase):
            if self._takes_all and phase == _COMPUTING:
                self._begin()
                yield
                self._end()
            else:
                yield

    def by_rank(self) -> list[float]:
        """The mean seconds of a piece in the step before, in this rank's place; zeros for the others' to be added."""
        own = [end - start if isinstance(end, float) else start.elapsed_time(end) / 1e3 for start, end in self._marks]
        self._marks = []
        seconds = sum(own) / len(own) if own else 0.0
        return [seconds if rank == self._rank else 0.0 for rank in range(self._count)]

    def _begin(self) -> None:
        self._began = self._now()

    def _end(self) -> None:
        if self._began is not None:
            self._marks.append((self._began, self._now()))
        self._began = None

    def _now(self) -> Any:
        if not self._is_on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record()
        return event


class SlowRanks:
    """Compares the ranks over a window of steps, and names each slow one once."""

    def __init__(self) -> None:
        self._steps = 0
        self._window: deque[list[float]] = deque(maxlen=WINDOW)
        self.found: dict[int, float] = {}
        """How many times as long as the others it takes, by rank."""

    def add(self, seconds: Sequence[float]) -> dict[int, float]:
        """The ranks that are now seen to be slow, by the seconds of each rank in a step; every rank finds the same."""
        self._steps += 1
        if self._steps <= FIRST_STEPS or len(seconds) < 2 or min(seconds) <= 0.0:
            return {}
        self._window.append([own / statistics.median(_without(seconds, rank)) for rank, own in enumerate(seconds)])
        if len(self._window) < WINDOW:
            return {}
        new = {}
        for rank in range(len(seconds)):
            ratios = sorted(step[rank] for step in self._window)
            if statistics.median(ratios) >= SLOWER and ratios[WINDOW // 4] >= NEARLY_ALWAYS and rank not in self.found:
                new[rank] = statistics.median(ratios)
        self.found |= new
        return new


def _without(values: Sequence[float], place: int) -> list[float]:
    return [*values[:place], *values[place + 1 :]]
