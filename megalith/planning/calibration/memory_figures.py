"""Memory figures of a table: the quantity that a row states, its bytes, and what the memory model says of it.

A table of runs has `mem_gb`, which is what its software's logs show. A table of memory alone has `quantity`,
`value_gb` and `unit` in its place: whole peaks, the state of parameters, activations, or a layer's activations as a
share of those under tensor parallelism alone (2205.05198, Figures 1 and 7).
"""

from dataclasses import replace
from typing import Literal

from megalith.job import Job
from megalith.planning.calibration.cells import Cells, NotModelledError
from megalith.planning.performance.memory import MemoryEstimate, estimate_memory, shown_bytes
from megalith.planning.performance.memory.constants import shipped
from megalith.planning.performance.memory.other_stacks import layer_bytes

GIB = 2**30  # what nvidia-smi and torch call a GB
SPEEDS = ("step_time_s", "tflops_gpu", "tokens_s_gpu", "mfu")

Quantity = Literal["shown", "state", "activations", "activation share"]
"""The peak as the software's logs show it; weights, gradients and optimizer; activations; the share of a layer's."""


def alone(cells: Cells) -> bool:
    """Whether the row states memory, and no speed."""
    stated = cells.text("mem_gb") or cells.text("value_gb")
    return bool(stated) and not any(cells.text(name) for name in SPEEDS)


def memory_figure(cells: Cells) -> tuple[Quantity, float | None]:
    """The quantity and its bytes (a share: of 1), or None where the row states none."""
    shown = cells.number("mem_gb")
    value, named = cells.number("value_gb"), cells.text("quantity").lower()
    if value is None:
        return "shown", shown * GIB if shown else None
    if "%" in named or cells.text("unit") == "%":
        return "activation share", value / 100
    if "param" in named or "optimizer" in named:
        return "state", value * GIB
    if "activation" in named:
        return "activations", value * GIB
    if "peak" in named or not named:
        return "shown", value * GIB
    raise NotModelledError(f"the quantity {named} is not modelled")


def predicted_figure(job: Job, quantity: Quantity, estimate: MemoryEstimate | None = None) -> float:
    """The memory model's figure for a quantity, in bytes; a share of 1 for "activation share"."""
    if quantity == "activation share":
        plain = replace(job, sequence_parallel=False, recompute="none")
        return _kept(job) / _kept(plain)
    found = estimate_memory(job) if estimate is None else estimate
    if quantity == "shown":
        return shown_bytes(job, found)
    share = shipped().of(job.stack)["allocated"].share  # what is counted, without the fragments that a peak has
    parts = {kind: held / share for kind, held in found.worst.parts.items()}
    if quantity == "activations":
        return parts["activations"]
    return parts["weights"] + parts["gradients"] + parts["optimizer"]


def _kept(job: Job) -> float:
    kept = layer_bytes(job)
    return {"none": kept.none, "selective": kept.selective, "full": kept.full}[job.recompute]
