"""Bytes by part on each pipeline rank, and the worst of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "working", "buffers", "context")
"""weights: masters and what ZeRO has gathered among them. activations: kept from forward to backward passes, of all
micro-batches in flight. logits: of the loss. working: what one layer's pass needs beside that, what it computes again
among it. buffers: of the pipeline and of ZeRO's messages. context: CUDA's own, and NCCL's."""


@dataclass(frozen=True)
class StageMemory:
    """One rank of a stage at its peak, in bytes."""

    pipeline_rank: int
    parts: dict[str, float]
    """By kind, as in PARTS."""
    reserved_bytes: float
    """Held by the allocator to give out `allocated_bytes`."""

    @property
    def allocated_bytes(self) -> float:
        return sum(self.parts.values()) - self.parts["context"]

    @property
    def device_bytes(self) -> float:
        """As nvidia-smi shows them."""
        return self.reserved_bytes + self.parts["context"]

    def by(self, meter: str) -> float:
        """The figure of a meter: allocated, reserved or device."""
        return {"allocated": self.allocated_bytes, "reserved": self.reserved_bytes, "device": self.device_bytes}[meter]


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory of one job."""

    worst: StageMemory
    """The rank that takes the most of its device."""
    coverage: float
    """Share of measurements that `interval` is to hold."""
    spread: tuple[float, float]
    """Lower and upper end of the interval, relative to the prediction."""
    _all: Callable[[], tuple[StageMemory, ...]] = field(repr=False)

    @cached_property
    def stages(self) -> tuple[StageMemory, ...]:
        """Every pipeline rank, in order."""
        return self._all()

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the worst rank's bytes on the device."""
        return self.worst.device_bytes * self.spread[0], self.worst.device_bytes * self.spread[1]
