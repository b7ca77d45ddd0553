"""The memory of a job: its ranks' parts by the formulas of its stack, and what the meters make of them."""

import functools
from collections.abc import Mapping

from megalith.job import Job
from megalith.planning.performance.memory.constants import (
    COVERAGE,
    KEPT_FRAGMENTS,
    ON_CPU,
    Line,
    MemoryConstants,
    Meter,
    shipped,
    shown_meter,
)
from megalith.planning.performance.memory.other_stacks import published_parts, stage_layers
from megalith.planning.performance.memory.parameters_per_rank import layer_counts
from megalith.planning.performance.memory.rank_bytes import on_cpu, our_parts
from megalith.planning.performance.memory.result import MemoryEstimate, StageMemory


def estimate_memory(job: Job, constants: MemoryConstants | None = None) -> MemoryEstimate:
    """The memory of a job's ranks, by these constants or by the shipped ones."""
    is_on_cpu = on_cpu(job.cluster)
    lines = _lines(constants, job.stack, on_cpu=is_on_cpu) if constants else _shipped_lines(job.stack, on_cpu=is_on_cpu)
    capacity = job.cluster.memory_bytes
    heaviest = (_stage(job, rank, lines, capacity) for rank in _heaviest(job))
    worst = max(heaviest, key=lambda stage: stage.device_bytes)
    deviation = lines["device"].deviation
    return MemoryEstimate(
        worst,
        COVERAGE,
        (1 - deviation, 1 + deviation),
        lambda: tuple(_stage(job, rank, lines, capacity) for rank in range(job.layout.pipeline)),
    )


def fits_within(job: Job, *, sure: bool = False) -> bool:
    """Whether each rank's accelerator holds it; with `sure`, at the upper end of the interval too.

    By the same figures as `estimate_memory`, until the first rank that does not.
    """
    lines = _shipped_lines(job.stack, on_cpu=on_cpu(job.cluster))
    capacity = job.cluster.memory_bytes
    upper = 1 + lines["device"].deviation if sure else 1.0
    return all(_stage(job, rank, lines, capacity).device_bytes * upper <= capacity for rank in _heaviest(job))


def counted_bytes(job: Job) -> float:
    """Bytes on the fullest rank by the formulas, before any constant."""
    return max(sum(_parts(job, rank).values()) for rank in _heaviest(job))


def shown_bytes(job: Job, estimate_memory: MemoryEstimate) -> float:
    """The worst rank's bytes as a published table of this stack's runs would show them."""
    return estimate_memory.worst.by(shown_meter(job.stack))


def fits(job: Job, estimate_memory: MemoryEstimate) -> bool:
    """Whether the worst rank's accelerator holds it."""
    return estimate_memory.worst.device_bytes <= job.cluster.memory_bytes


@functools.cache
def _shipped_lines(stack: str, *, on_cpu: bool) -> Mapping[Meter, Line]:
    return _lines(shipped(), stack, on_cpu=on_cpu)


def _lines(constants: MemoryConstants, stack: str, *, on_cpu: bool) -> Mapping[Meter, Line]:
    """The constants of a stack on its device."""
    return ON_CPU if stack == "megalith" and on_cpu else constants.of(stack)


def _parts(job: Job, rank: int) -> dict[str, float]:
    return our_parts(job, rank) if job.stack == "megalith" else published_parts(job, rank)


def _stage(job: Job, rank: int, lines: Mapping[Meter, Line], capacity: float) -> StageMemory:
    """Fragments grow until the device is full; then the allocator gives back what it can."""
    parts = _parts(job, rank)
    counted = sum(parts.values())
    allocated, reserved, device = lines["allocated"], lines["reserved"], lines["device"]
    if allocated.share != 1.0:
        for kind in parts:
            parts[kind] *= allocated.share
    parts["buffers"] += allocated.bytes
    held = allocated.share * counted + allocated.bytes
    wanted = max(held, reserved.share * counted + reserved.bytes)
    context = max(0.0, device.share * counted + device.bytes - wanted)
    least = held + KEPT_FRAGMENTS * (wanted - held)
    parts["context"] = context
    return StageMemory(rank, parts, min(wanted, max(capacity - context, least)))


def _heaviest(job: Job) -> tuple[int, ...]:
    """Ranks that may hold the most: the ends, the one after the first, and the first of those with more layers."""
    pipeline = job.layout.pipeline
    if pipeline <= 3:
        return tuple(range(pipeline))
    if job.stack == "megalith":
        counts = layer_counts(job.model, pipeline * job.virtual_stages)
        layers = [sum(counts[rank::pipeline]) for rank in range(pipeline)] if job.virtual_stages > 1 else counts
    else:
        layers = stage_layers(job.model, pipeline, job.stack)
    most = max(layers)
    first = next(rank for rank in range(pipeline) if layers[rank] == most)
    late = (pipeline - 2,) if job.schedule.startswith("zb") or job.schedule == "gpipe" else ()
    return tuple({0, 1, first, *late, pipeline - 1})
