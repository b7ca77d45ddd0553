"""gloo as a process group in Python that writes down when each call is made, and when somebody waits for it.

torch's functional collectives, FSDP2 and its pipelines all speak through the process group, so that nothing they do is
missed. A call costs some ten microseconds more than gloo's own.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TIMED = "timed"
POINT_TO_POINT = ("send", "recv")
COLLECTIVES = (
    "allgather",
    "all_gather_single",
    "all_gather_single_coalesced",
    "allreduce",
    "allreduce_coalesced",
    "barrier",
    "broadcast",
    "reduce_scatter",
    "reduce_scatter_single",
    "reduce_scatter_single_coalesced",
)  # the names of torch 2.13


@dataclass
class Call:
    """One collective, send or receive of this rank; seconds of the machine's monotonic clock."""

    kind: str
    group: str
    posted: float
    waited_from: float | None = None
    waited_until: float | None = None

    @property
    def is_point_to_point(self) -> bool:
        return self.kind in POINT_TO_POINT


CALLS: list[Call] = []
"""The process groups of this process, in the order in which they were made."""


def register() -> None:
    """Make the backend known to torch as `TIMED`."""
    dist.Backend.register_backend(TIMED, _make, devices=["cpu"])


class _Work(dist._Work):
    def __init__(self, work: Any, call: Call) -> None:
        super().__init__()
        self._work, self._call = work, call

    def wait(self, timeout: timedelta | None = None) -> bool:
        begun = time.perf_counter()
        self._work.wait()
        if self._call.waited_from is None:
            self._call.waited_from, self._call.waited_until = begun, time.perf_counter()
        return True

    def is_completed(self) -> bool:
        return bool(self._work.is_completed())

    def get_future(self) -> Any:
        return self._work.get_future()


class _Group(dist.ProcessGroup):
    def __init__(self, gloo: dist.ProcessGroup, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._gloo, self._own_name = gloo, ""

    def getBackendName(self) -> str:  # noqa: N802  # torch's name
        return TIMED

    def setGroupName(self, name: str) -> None:  # noqa: N802  # torch's name
        self._own_name = name

    def getGroupName(self) -> str:  # noqa: N802  # torch's name
        return self._own_name


def _timed(kind: str) -> Any:
    def call(self: _Group, *arguments: Any, **named: Any) -> _Work:
        work = getattr(self._gloo, kind)(*arguments, **named)
        made = Call(kind, self._own_name, time.perf_counter())
        CALLS.append(made)
        return _Work(work, made)

    return call


for _kind in (*COLLECTIVES, *POINT_TO_POINT):
    setattr(_Group, _kind, _timed(_kind))


def _make(store: dist.Store, rank: int, size: int, timeout: timedelta) -> _Group:
    gloo = dist.ProcessGroup(store, rank, size)
    kind = dist.ProcessGroup.BackendType.GLOO
    gloo._set_default_backend(kind)
    gloo._register_backend(torch.device("cpu"), kind, dist.ProcessGroupGloo(store, rank, size, timeout))
    return _Group(gloo, rank, size)
