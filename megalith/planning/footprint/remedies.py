"""What is over when a job does not fit, and which change of one setting would make it fit.

The nearest change of a setting is the first of its values, in the order of what they cost, with which the job fits. The
number of accelerators stays: more tensor or pipeline parallelism leaves fewer replicas.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from megalith.console import human_bytes
from megalith.planning.footprint.peak import footprint
from megalith.planning.footprint.values import Footprint
from megalith.planning.job import ZERO_STAGES, Job
from megalith.topology import Layout

_TOLD = 3  # parts


@dataclass(frozen=True)
class Remedy:
    """One setting changed."""

    setting: str
    """As a recipe names it."""
    value: str
    job: Job
    device_bytes: float
    """Of the fullest accelerator, with it."""

    @property
    def says(self) -> str:
        return f"{self.setting}={self.value} ({human_bytes(self.device_bytes)})"


def explain(job: Job, footprint: Footprint, limit: float | None = None) -> str:
    """In a line, what the fullest rank holds, by its largest parts, and by how much it is over `limit` bytes.

    Without `limit` it is the accelerator's memory.
    """
    capacity = job.cluster.memory_bytes if limit is None else limit
    worst = footprint.worst
    parts = sorted(worst.parts.items(), key=lambda part: -part[1])[:_TOLD]
    told = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts)
    spare = capacity - worst.device_bytes
    place = f"pipeline rank {worst.pipeline_rank} of {job.layout.pipeline}" if job.layout.pipeline > 1 else "each rank"
    verdict = f"{human_bytes(-spare)} over" if spare < 0 else f"{human_bytes(spare)} to spare"
    return f"{place} takes {human_bytes(worst.device_bytes)} of {human_bytes(capacity)}, {verdict}: {told}"


def remedies(job: Job, limit: float | None = None) -> list[Remedy]:
    """For each setting the nearest value with which the job takes at most `limit` bytes, the cheapest first.

    Cheapest is said in the order that costs speed least, as a rule: ZeRO, sequence parallelism, selective and full
    recomputation, a smaller micro-batch, more tensor and more pipeline parallelism. Where no change of one setting is
    enough, those of two are given.
    """
    capacity = job.cluster.memory_bytes if limit is None else limit
    return _first_that_fit(_changes(job), capacity) or _first_that_fit(_pairs(job), capacity)


def _first_that_fit(changes: Iterable[tuple[str, str, Job]], capacity: float) -> list[Remedy]:
    found: dict[str, Remedy] = {}
    for setting, value, changed in changes:
        if setting not in found:
            held = footprint(changed).worst.device_bytes
            if held <= capacity:
                found[setting] = Remedy(setting, value, changed, held)
    return list(found.values())


def _pairs(job: Job) -> Iterator[tuple[str, str, Job]]:
    for setting, value, changed in _changes(job):
        for second, other, both in _changes(changed):
            if second > setting:
                yield f"{setting}={value} with {second}", other, both


def _changes(job: Job) -> Iterator[tuple[str, str, Job]]:
    layout = job.layout
    if layout.data * job.context > 1:
        for zero in ZERO_STAGES[job.zero + 1 :]:
            yield "parallel.zero", str(zero), replace(job, zero=zero)
    if layout.tensor > 1 and not job.sequence_parallel:
        yield "parallel.sequence_parallel", "true", replace(job, sequence_parallel=True)
    if job.recompute == "none":
        yield "parallel.recompute", "selective", replace(job, recompute="selective")
    if job.recompute != "full" or job.recompute_every > 1:
        yield "parallel.recompute", "full", replace(job, recompute="full", recompute_every=1)
    for size in range(job.micro_batch_size - 1, 0, -1):
        if job.global_batch_size % (layout.data * size) == 0:
            yield "train.micro_batch_size", str(size), replace(job, micro_batch_size=size)
    for tensor in _multiples(layout.tensor, layout.data):
        if tensor <= job.cluster.accelerators_per_node and _splits(job, tensor):
            wider = Layout(tensor, layout.pipeline, layout.data * layout.tensor // tensor)
            yield "parallel.tensor", str(tensor), replace(job, layout=wider)
    for pipeline in _multiples(layout.pipeline, layout.data):
        if pipeline * job.virtual_stages <= job.model.layers:
            longer = Layout(layout.tensor, pipeline, layout.data * layout.pipeline // pipeline)
            changed = replace(job, layout=longer)
            if job.schedule != "interleaved-1f1b" or changed.micro_batches % pipeline == 0:
                yield "parallel.pipeline", str(pipeline), changed


def _multiples(size: int, replicas: int) -> list[int]:
    """Sizes that take whole replicas' ranks."""
    return [size * factor for factor in range(2, replicas + 1) if replicas % factor == 0]


def _splits(job: Job, tensor: int) -> bool:
    model = job.model
    return model.heads % tensor == 0 and model.kv_heads % tensor == 0 and model.ffn_hidden % tensor == 0
