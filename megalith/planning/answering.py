"""The other side of `workers`: a process that answers questions about this machine until nobody asks any more.

A question is one JSON line on standard input, its answer one on standard output. The process ends when its parent does.
"""

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psutil
import torch
import torch.distributed as dist

from megalith.kernels import use
from megalith.parallel import Ranks, compute_deterministically
from megalith.processes import die_with, keep_freed_memory

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LONG_SECONDS = 1.5  # what takes longer is not repeated
PATIENCE = timedelta(seconds=120)  # with ranks that do not answer

Answer = Callable[[dict[str, Any]], object]


def serve(prepare: Callable[[Ranks], Answer]) -> None:
    """Be the worker that the command line names: RANK SIZE STORE PARENT; `prepare` gives what answers a question."""
    rank, size, store, parent = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    die_with(parent)
    keep_freed_memory()  # as training does, and the next line
    compute_deterministically()
    if size > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=PATIENCE)
    answer = prepare(Ranks(rank, size))
    _say({"base_bytes": psutil.Process().memory_info().rss})
    for line in sys.stdin:
        question = json.loads(line)
        use(question.pop("kernels", {}))  # those that training would use
        _say(answer(question))


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
