"""Data parallelism: every rank has the whole model and its share of the batch; the gradients are summed.

All gradients lie end to end in one tensor, which is all-reduced once a step, after the last micro-batch. It is a sum
and no mean: the loss is already divided by the tokens of the whole batch. torch's DistributedDataParallel orders its
buckets anew after the first step, so that with three ranks or more a resumed run adds in another order than the run
that it resumes; one tensor in one order keeps the bits. What DDP would overlap with the backward pass does not pay
where the ranks are cores of one machine.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and shows."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value added over all ranks, in fp64."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]


def join(store: Path | None = None) -> Ranks:
    """Meet the other processes that were started beside this one: in the file `store`, or as torchrun says.

    RANK and WORLD_SIZE in the environment say which this one is.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not dist.is_initialized():
        if store is None:
            dist.init_process_group("gloo")
        else:
            rank = int(os.environ["RANK"])
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    return Ranks(int(os.environ.get("RANK", "0")), count)


class Gradients:
    """The gradients of all parameters in one tensor; each parameter's `.grad` is a view of it."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        owners = list(parameters)
        self.flat = torch.zeros(sum(owner.numel() for owner in owners), dtype=owners[0].dtype)
        places = torch.split(self.flat, [owner.numel() for owner in owners])
        for owner, place in zip(owners, places, strict=True):
            owner.grad = place.view_as(owner)

    def zero(self) -> None:
        """Begin a step."""
        self.flat.zero_()

    def sum_over(self, ranks: Ranks) -> None:
        """Add up the gradients of all ranks."""
        if ranks.count > 1:
            dist.all_reduce(self.flat)

    def norm(self) -> float:
        """The global norm, the same on every rank."""
        total: Tensor = torch.linalg.vector_norm(self.flat)
        return float(total)

    def clip(self, norm: float, maximum: float | None) -> None:
        """Scale all gradients so that their norm, which is `norm` now, is at most `maximum`."""
        if maximum is not None and math.isfinite(norm) and norm > maximum:
            self.flat.mul_(maximum / norm)
