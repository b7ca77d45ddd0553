"""Traces of single steps for https://ui.perfetto.dev and chrome://tracing: every operation, by torch's profiler.

One rank of each pipeline stage writes its own, the first in tensor and data. The phases of the step bear their names,
and so do the pipeline's actions, as torch writes them: `PP:0F3` is the forward pass of stage 0 on micro-batch 3.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from megalith.parallel import Ranks
from megalith.training.clock import Clock


@contextmanager
def traced(logs: Path, step: int, ranks: Ranks, clock: Clock) -> Iterator[None]:
    """Write what happens in the block to `logs/trace-step-N-rank-R.json`, if this rank is one of those that do."""
    if ranks.index("tensor") or ranks.data_index:
        yield
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes of its own start and stop on standard error
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    clock.waits = True
    with profile(activities=activities) as profiler:
        yield
    clock.waits = False
    profiler.export_chrome_trace(str(logs / f"trace-step-{step}-rank-{ranks.rank}.json"))
