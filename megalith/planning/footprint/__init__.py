"""What a job holds on each of its accelerators, before it runs: the formulas behind "it fits".

    footprint(job) -> Footprint                   # worst rank at once, the others when asked for
    Footprint.worst: StageMemory                  # of the rank that holds the most
    Footprint.stages: tuple[StageMemory, ...]     # one for each pipeline rank
    Footprint.interval: (low, high)               # bytes on the device, worst rank; 90 % of measurements lie within
    StageMemory.parts: dict[str, float]           # bytes: weights, gradients, optimizer, activations, logits, working,
                                                  # buffers, context; all but the context add up to allocated_bytes
    StageMemory.allocated_bytes                   # what torch has given out at the peak
    StageMemory.reserved_bytes                    # what its allocator holds for that, fragments among it
    StageMemory.device_bytes                      # what nvidia-smi shows: reserved, CUDA's context and NCCL's buffers
    shown_bytes(job, footprint) -> float          # the figure that a published table of the job's stack has
    fits(job, footprint) -> bool                  # the worst rank's device_bytes within the accelerator's memory
    memory_row(job, measured_bytes) -> MemoryRow  # a published row, by the meter of its stack's tables
    fit_memory(rows) -> MemoryConstants           # two constants for each stack and meter
    held_out(rows, folds=2) -> list[Judged]       # predicted by constants that were fitted without the row's fold
    judge(rows, constants=None) -> list[Judged]   # by these constants, or by the shipped ones; mean_error(judged): MAPE

Of `stack="megalith"` it is the dry run's peak, operation by operation (`ours`); of other stacks the papers' formulas
(`published`). Bytes are bytes. Published tables write GB for GiB: logs divide by 1024. Mixtures
of experts and offloading are not covered.
"""

from megalith.planning.footprint.calibrate import (
    Judged,
    MemoryRow,
    fit_memory,
    held_out,
    judge,
    mean_error,
    memory_row,
)
from megalith.planning.footprint.constants import MemoryConstants
from megalith.planning.footprint.peak import counted_bytes, fits, footprint, shown_bytes
from megalith.planning.footprint.values import PARTS, Footprint, StageMemory

__all__ = [
    "PARTS",
    "Footprint",
    "Judged",
    "MemoryConstants",
    "MemoryRow",
    "StageMemory",
    "counted_bytes",
    "fit_memory",
    "fits",
    "footprint",
    "held_out",
    "judge",
    "mean_error",
    "memory_row",
    "shown_bytes",
]
