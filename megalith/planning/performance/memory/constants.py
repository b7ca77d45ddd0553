"""Two constants for each stack and meter: what a published figure is of the bytes that the formulas count.

figure = share · counted + bytes. A meter is `allocated` (what torch has given out), `reserved` (what its allocator
holds for that: fragments) or `device` (what nvidia-smi shows: CUDA's context and NCCL's buffers too). What was not
fitted is taken from PRIORS, of our own training from OURS, or from ON_CPU where it runs on a CPU.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

Meter = Literal["allocated", "reserved", "device"]
METERS: tuple[Meter, ...] = ("allocated", "reserved", "device")

CONTEXT_BYTES = 2.5e9
"""CUDA's context (1.6 GB on an A100) and NCCL's buffers, where nobody has measured them."""
KEPT_FRAGMENTS = 0.25
"""Share of the fragments that the allocator cannot give back when the device is full."""
COVERAGE = 0.9


class Line(NamedTuple):
    """figure = share · counted + bytes, and how far measurements lie from that."""

    share: float
    bytes: float
    deviation: float
    """Relative error that 90 % of the measurements stay within."""


PRIORS: Mapping[Meter, Line] = {
    "allocated": Line(1.0, 0.0, 0.08),
    "reserved": Line(1.10, 0.0, 0.12),
    "device": Line(1.10, CONTEXT_BYTES, 0.15),
}
OURS: Mapping[Meter, Line] = {
    "allocated": Line(1.0, 0.0, 0.02),
    "reserved": Line(1.05, 0.0, 0.06),
    "device": Line(1.05, CONTEXT_BYTES, 0.08),
}
"""The formulas are exact for our own training; what its allocator and driver add on a GPU has not been measured."""

ON_CPU: Mapping[Meter, Line] = {
    "allocated": Line(1.0, 0.0, 0.06),
    "reserved": Line(1.24, 0.0, 0.1),
    "device": Line(1.24, 0.0, 0.1),
}
"""Our own training on a CPU, where the C library holds on to freed blocks: the growth of a process over its first
step is 1.19 to 1.28 times what torch allocates (three small models, by VmHWM)."""

SHOWN: Mapping[str, Meter] = {
    "megatron-deepspeed": "device",
    "deepspeed": "device",
    "nanotron": "reserved",
    "torchtitan": "reserved",
    "torchtitan-eager": "reserved",
}
"""The meter that the logs and tables of a stack show; for other stacks it is torch's allocated bytes."""


def shown_meter(stack: str) -> Meter:
    """The meter that a table of this stack's runs has, where it does not say."""
    return SHOWN.get(stack, "allocated")


@dataclass(frozen=True)
class MemoryConstants:
    """Fitted lines by stack and meter."""

    lines: Mapping[str, Mapping[Meter, Line]]

    def of(self, stack: str) -> Mapping[Meter, Line]:
        """All three meters of a stack; those that were not fitted follow from those that were."""
        fitted = self.lines.get(stack, {})
        base = OURS if stack == "megalith" else PRIORS
        allocated = fitted.get("allocated") or base["allocated"]
        if "reserved" in fitted:
            reserved = fitted["reserved"]
        elif "device" in fitted:
            device = fitted["device"]
            reserved = device._replace(bytes=device.bytes - min(device.bytes, CONTEXT_BYTES))
        else:
            share = allocated.share * base["reserved"].share
            reserved = Line(share, allocated.bytes, base["reserved"].deviation)
        if "allocated" not in fitted and allocated.share > reserved.share:
            allocated = allocated._replace(share=reserved.share)
        device = fitted.get("device") or Line(
            reserved.share, reserved.bytes + CONTEXT_BYTES, max(reserved.deviation, base["device"].deviation)
        )
        return {"allocated": allocated, "reserved": reserved, "device": device}

    def to_json(self) -> str:
        """As `memory.json` has it."""
        return json.dumps(
            {stack: {meter: line._asdict() for meter, line in lines.items()} for stack, lines in self.lines.items()},
            indent=1,
        )


def from_json(text: str) -> MemoryConstants:
    """The inverse of `to_json`."""
    return MemoryConstants(
        {
            stack: {meter: Line(**line) for meter, line in lines.items() if meter in METERS}
            for stack, lines in json.loads(text).items()
        }
    )


@cache
def shipped() -> MemoryConstants:
    """Those that come with Megalith."""
    place = files("megalith.planning") / "constants" / "memory.json"
    return from_json(place.read_text(encoding="utf-8")) if place.is_file() else MemoryConstants({})
