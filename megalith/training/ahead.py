"""The samples of the next step, read by a thread into pinned memory while a GPU computes this one.

On a CPU, whose cores compute, nothing is read ahead. Which samples a step has is a function of its number, so that a
thread changes neither their order nor a bit; where a run goes back, what was read ahead is dropped.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from megalith.parallel import MicroBatch
from megalith.training.data import Batch

Read = Callable[[Batch], list[MicroBatch]]


class Ahead:
    """One step's samples at most, beside those that are being computed."""

    def __init__(self, read: Read, device: torch.device) -> None:
        """`read` gives this rank's micro-batches of a step."""
        self._read, self._device = read, device
        self._pool = ThreadPoolExecutor(1, "reads-ahead") if device.type == "cuda" else None
        self._next: tuple[Batch, Future[list[MicroBatch]]] | None = None

    def take(self, batch: Batch, following: Batch | None) -> list[MicroBatch]:
        """The micro-batches of this step; those of the following one are read from here on.

        An error of the reader is raised at the step that it is of.
        """
        waiting, self._next = self._next, None
        found = waiting[1].result() if waiting is not None and waiting[0] == batch else self._read(batch)
        if following is not None and self._pool is not None:
            self._next = following, self._pool.submit(self._pinned, following)
        return found

    def _pinned(self, batch: Batch) -> list[MicroBatch]:
        read = self._read(batch)
        if self._device.type != "cuda":
            return read
        with torch.cuda.device(self._device):
            return [{name: each.pin_memory() for name, each in micro_batch.items()} for micro_batch in read]
