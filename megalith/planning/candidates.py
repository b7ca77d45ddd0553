"""A layout with its predicted step, and how repeated timings become a prediction."""

import math
import statistics
from dataclasses import dataclass

from megalith.precision import Precision

MODEL_ERROR = 0.12  # what a short probe may miss of a long run, beside its own spread: a judgement, not a fit


@dataclass(frozen=True)
class Layout:
    """One way to run the step."""

    data: int
    threads_per_process: int
    micro_batch_size: int
    precision: Precision
    tensor: int = 1
    pipeline: int = 1

    @property
    def processes(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True)
class Candidate:
    """A layout with its predicted time and memory, and why it was or was not taken."""

    layout: Layout
    step_seconds: float
    interval: tuple[float, float]
    """Of step_seconds: the spread of the probe and MODEL_ERROR; no coverage is claimed yet."""
    memory: dict[str, int]
    why: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether it has a time; a layout that took too long to measure has none."""
        return math.isfinite(self.step_seconds)

    @property
    def memory_bytes(self) -> int:
        return sum(self.memory.values())


@dataclass(frozen=True)
class Search:
    """The best layout, all that were tried (the best first), and the time that the search took."""

    best: Candidate
    candidates: list[Candidate]
    considered: int
    seconds: float


def error_of(times: list[float]) -> float:
    """The relative error that a prediction from these timings is given."""
    return math.hypot(MODEL_ERROR, spread(times))


def undisturbed(times: list[float]) -> float:
    """The median of the faster half: what other programs have slowed is left out."""
    return statistics.median(sorted(times)[: (len(times) + 1) // 2])


def spread(times: list[float]) -> float:
    """Half the distance between the quartiles, relative to the median."""
    if len(times) < 4:
        return (max(times) - min(times)) / (max(times) + min(times))
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 2 / middle
