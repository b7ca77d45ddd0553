"""Bytes that a job holds on each of its accelerators, before it runs: the formulas behind "it fits".

`estimate_memory(job)` gives the pipeline rank that holds the most, and the others when asked for; `fits` compares it
with the accelerator's memory; `shown_bytes` is the figure that a published table of the job's stack would show.

For `stack="megalith"` the result is the dry run's peak, operation by operation (`stage_passes`); for other stacks it
follows the papers' formulas (`other_stacks`). Bytes are bytes: published tables write GB for GiB, and logs divide by
1024. The two constants of each stack and meter are fitted in
`planning.calibration.fit_memory`.
"""

from megalith.planning.performance.memory.constants import MemoryConstants
from megalith.planning.performance.memory.estimate import counted_bytes, estimate_memory, fits, fits_within, shown_bytes
from megalith.planning.performance.memory.result import PARTS, MemoryEstimate, StageMemory

__all__ = [
    "PARTS",
    "MemoryConstants",
    "MemoryEstimate",
    "StageMemory",
    "counted_bytes",
    "estimate_memory",
    "fits",
    "fits_within",
    "shown_bytes",
]
