"""Evaluators that are told all times and bytes, by formulas in the spirit of the real ones; they count their calls."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

from megalith.arithmetic import parameters
from megalith.job import Job
from megalith.planning.performance import StepTime
from megalith.planning.performance.memory import MemoryEstimate
from megalith.planning.search.candidate import Candidate, Evaluator


def parts_of(job: Job) -> dict[str, float]:
    """Seconds: larger micro-batches compute better, tensor groups beyond a node are ten times as slow."""
    layout, model = job.layout, job.model
    tokens = job.micro_batch_size * model.sequence_length
    computing = job.global_batch_size * model.layers / layout.world * (1 + 200 * layout.tensor / tokens)
    again = {"none": 0.0, "selective": 0.1, "full": 0.3 / job.recompute_every}[job.recompute] * computing
    slow = 1.0 if layout.tensor <= job.cluster.accelerators_per_node else 10.0
    split = 1.0 if job.sequence_parallel else 1.1
    tensor = 0.02 * slow * split * (layout.tensor - 1) * computing / layout.tensor
    bubble = {"gpipe": 1.0, "1f1b": 1.0, "zb-h1": 0.45, "interleaved-1f1b": 1 / job.virtual_stages}[job.schedule]
    bubble *= (layout.pipeline - 1) / job.micro_batches * (computing + again + tensor)
    sharded = 1.6 if layout.pipeline > 1 else 0.3  # ZeRO 3 hides behind computing, and a bubble has none
    data = {0: 0.9, 1: 0.8, 2: 0.85, 3: sharded}[job.zero] * (0.9 if job.zero_shard else 1.0)
    return {
        "computing": computing,
        "recomputation": again,
        "tensor communication": tensor,
        "pipeline bubble": bubble,
        "pipeline sends": 0.01 * layout.pipeline * job.virtual_stages,
        "data communication": data if layout.data > 1 else 0.0,
    }


def held_by(job: Job) -> dict[str, float]:
    """Bytes by kind."""
    layout, model = job.layout, job.model
    own = parameters(model).total / layout.tensor / layout.pipeline
    shard = job.zero_shard or layout.data
    stream = job.micro_batch_size * model.sequence_length * model.hidden
    layer = stream * 34 / (layout.tensor if job.sequence_parallel else 1 + layout.tensor / 4)
    kept = {"none": layer, "selective": 0.8 * layer, "full": 2 * stream + layer * (1 - 1 / job.recompute_every)}
    flying = job.micro_batches if job.schedule == "gpipe" else min(job.micro_batches, layout.pipeline)
    if job.virtual_stages > 1:
        flying *= 1 + (layout.pipeline - 1) / layout.pipeline / job.virtual_stages  # type: ignore[assignment]  # a mean
    return {
        "weights": own * 6 / (shard if job.zero == 3 else 1),
        "gradients": own * 4 / (shard if job.zero >= 2 else 1),
        "optimizer": own * 8 / (shard if job.zero else 1),
        "activations": kept[job.recompute] * flying * model.layers / layout.pipeline,
    }


class Told(Evaluator):
    """Every candidate by the formulas above; a step played exactly is as long as its closed form."""

    def step(self, job: Job, *, exact: bool = False) -> StepTime:
        self.timed += 1
        return step_of(parts_of(job), job)

    def memory(self, job: Job) -> MemoryEstimate:
        return footprint_of(held_by(job))

    def fits(self, job: Job) -> bool:
        found = self.memory(job)
        return (found.interval[1] if self.sure else found.worst.device_bytes) <= job.cluster.memory_bytes


def candidate(job: Job, parts: Mapping[str, float], held: Mapping[str, float]) -> Candidate:
    return Candidate(job, step_of(parts, job), footprint_of(held))


def step_of(parts: Mapping[str, float], job: Job) -> StepTime:
    seconds = sum(parts.values())
    return StepTime(
        seconds=seconds,
        interval=(0.9 * seconds, 1.1 * seconds),
        coverage=0.8,
        bubble_fraction=parts.get("pipeline bubble", 0.0) / seconds,
        tflops_per_gpu=1 / seconds,
        mfu=1 / seconds,
        parts=dict(parts),
        durations=(),
        send_seconds=(),
    )


def footprint_of(held: Mapping[str, float]) -> MemoryEstimate:
    worst = SimpleNamespace(parts=dict(held), device_bytes=sum(held.values()))
    return cast(MemoryEstimate, SimpleNamespace(worst=worst, interval=(0.0, 2 * sum(held.values()))))
