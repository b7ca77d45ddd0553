"""Where the seconds of a step go, by phase, as the process that trains sees it.

A GPU is still at work when the call that gave it the work returns. There a phase is only as long as its calls, and what
is left over falls to the next phase that waits for a number (`norm`), but for traced steps, in which every phase waits.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function


class Clock:
    """Adds up seconds by phase until they are taken; the phases bear their names in a trace."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self.waits = False
        """Whether each phase ends when the GPU has done its work."""

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        with record_function(phase):
            yield
            if self.waits and torch.cuda.is_available():
                torch.cuda.synchronize()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds of each phase since they were taken last."""
        taken, self._seconds = self._seconds, {}
        return taken
