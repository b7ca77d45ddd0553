"""One candidate layout: its step time by the cost model, its memory by the memory model, and whether that fits."""

from dataclasses import dataclass
from functools import cached_property

from megalith.job import Job
from megalith.planning.performance import Constants, StepTime, predict_step
from megalith.planning.performance.memory import MemoryEstimate, estimate_memory, fits_within
from megalith.topology import Cluster, Layout

CROSSING = 1.03
"""Tensor groups that cross nodes must promise to be faster by this: of 250 published layouts one does it, and the same
run repeated differs by 3 % (BLOOM), so less than that is no reason to be the first."""


def risk(layout: Layout, cluster: Cluster) -> float:
    """CROSSING for a layout whose tensor groups do not fit into a node; 1 for others."""
    return CROSSING if layout.tensor > cluster.accelerators_per_node and cluster.nodes > 1 else 1.0


@dataclass(frozen=True)
class Candidate:
    """A job with its predicted step and memory."""

    job: Job
    step: StepTime
    estimate_memory: MemoryEstimate

    @property
    def seconds(self) -> float:
        return self.step.seconds

    @property
    def merit(self) -> float:
        """Seconds by which candidates are ranked."""
        return self.seconds * risk(self.job.layout, self.job.cluster)

    @cached_property
    def memory_bytes(self) -> float:
        """Bytes on the fullest accelerator, as its driver counts them."""
        return self.estimate_memory.worst.device_bytes

    @property
    def spare_bytes(self) -> float:
        """Negative where it does not fit."""
        return self.job.cluster.memory_bytes - self.memory_bytes

    @property
    def fits(self) -> bool:
        return self.spare_bytes >= 0

    @cached_property
    def most_bytes(self) -> float:
        """Upper end of the interval of `memory_bytes`."""
        return self.estimate_memory.interval[1]

    @property
    def is_sure_to_fit(self) -> bool:
        return self.most_bytes <= self.job.cluster.memory_bytes


class Evaluator:
    """Predicts time and memory of candidates, and counts those that it timed."""

    def __init__(self, *, sure: bool = False, constants: Constants | None = None) -> None:
        """`sure`: to fit is to fit at the upper end of the interval. Without `constants`, by the shipped ones."""
        self.sure = sure
        self.constants = constants
        self.timed = 0

    def step(self, job: Job, *, exact: bool = False) -> StepTime:
        self.timed += 1
        return predict_step(job, self.constants, exact=exact)

    def memory(self, job: Job) -> MemoryEstimate:
        return estimate_memory(job)

    def fits(self, job: Job) -> bool:
        return fits_within(job, sure=self.sure)

    def weigh(self, job: Job, *, exact: bool = False) -> Candidate:
        return Candidate(job, self.step(job, exact=exact), self.memory(job))
