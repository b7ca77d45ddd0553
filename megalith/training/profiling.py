"""Time and memory of a run: seconds by phase of a step, peak memory by rank, and traces of single steps.

A trace is for https://ui.perfetto.dev and chrome://tracing: every operation, by torch's profiler. One rank of each
pipeline stage writes its own, the first in tensor and data. The phases of the step bear their names, and so do the
pipeline's actions, as torch writes them: `PP:0F3` is the forward pass of stage 0 on micro-batch 3.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from megalith.parallel import Mesh


class PhaseClock:
    """Adds up seconds by phase until they are taken; the phases bear their names in a trace.

    A GPU is still at work when the call that gave it the work returns. There a phase is only as long as its calls, and
    the rest falls to the next phase that waits for a number (`norm`), except in traced steps, whose phases all wait.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self.phase = "start"
        """The phase that began last."""
        self.waits = False
        """Whether each phase ends when the GPU has done its work."""

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start, self.phase = time.perf_counter(), phase
        with record_function(phase):
            yield
            if self.waits and torch.cuda.is_available():
                torch.cuda.synchronize()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds of each phase since they were taken last."""
        taken, self._seconds = self._seconds, {}
        return taken


@contextmanager
def trace_step(logs: Path, step: int, ranks: Mesh, clock: PhaseClock) -> Iterator[None]:
    """Write the operations of the block to `logs/trace-step-N-rank-R.json`, if this rank is one of those that do."""
    if ranks.index("tensor") or ranks.context_index or ranks.data_index:
        yield
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes of its own start and stop on standard error
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    clock.waits = True
    with profile(activities=activities) as profiler:
        yield
    clock.waits = False
    profiler.export_chrome_trace(str(logs / f"trace-step-{step}-rank-{ranks.rank}.json"))


def peak_memory_by_rank(ranks: Mesh) -> list[int]:
    """Peak memory of each rank in bytes, by rank; every rank calls it."""
    own = peak_memory_bytes()
    return [int(each) for each in ranks.sum(*(own if rank == ranks.rank else 0 for rank in range(ranks.count)))]


def peak_memory_bytes() -> int:
    """Peak memory of this process: allocated on its GPU, or else resident.

    Not getrusage's ru_maxrss where it can be helped: that one is inherited from the process that started this one.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def reserved_memory_bytes() -> int | None:
    """Peak memory that PyTorch has reserved on this process's GPU, free blocks included; None without a GPU."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
