"""Functions run on several gloo ranks of this machine.

The ranks are forked from one server that has imported torch already: eight of them start in the time of one.
"""

import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from megalith.parallel.mesh import remember_collectives

PATIENCE_SECONDS = 300  # far more than any part of a test takes on a busy machine

forkserver.set_forkserver_preload(["tests.parallel.parity", "tests.parallel.processes"])


def start(world: int, folder: str, function: Callable[..., None], *arguments: Any) -> mp.ProcessContext:
    """Begin `function(rank, *arguments)` on `world` ranks, in fp32 and one thread each; they meet in `folder`."""
    store = str(Path(folder) / "store")
    started = mp.start_processes(
        _enter, (world, store, function, arguments), nprocs=world, join=False, start_method="forkserver"
    )
    assert started is not None
    return started


def wait(context: mp.ProcessContext, progress: Callable[[], int] = lambda: 0) -> None:
    """Until all ranks have ended; ends them where `progress` has stood still for long: they wait for each other.

    Raises what a rank has raised, or TimeoutError.
    """
    seen, since = progress(), time.monotonic()
    while not context.join(timeout=1):
        if progress() != seen:
            seen, since = progress(), time.monotonic()
        elif time.monotonic() > since + PATIENCE_SECONDS:
            for process in context.processes:
                process.kill()
            raise TimeoutError(f"the ranks have come no further for {PATIENCE_SECONDS} s")


def on_ranks(world: int, function: Callable[..., dict[str, Tensor]], *arguments: Any) -> list[dict[str, Tensor]]:
    """Return the results of `function(rank, *arguments)` on each of `world` ranks: tensors by name."""
    with tempfile.TemporaryDirectory() as folder:
        wait(start(world, folder, _keep, function, folder, *arguments))
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]


def _keep(rank: int, function: Callable[..., dict[str, Tensor]], folder: str, *arguments: Any) -> None:
    torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")


def _enter(rank: int, world: int, store: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    remember_collectives()
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    function(rank, *arguments)
    if world > 1:
        dist.barrier()
    os._exit(0)  # torch's teardown of many groups takes longer than the work
