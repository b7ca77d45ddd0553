"""The parts of a step, from what its FLOPs would take at the peak to what it is predicted to take.

Computing is taken apart by asking the cost model again with constants that cost nothing (products at the peak, memory
that takes no time, no launches), and turning them on one after the other: what each adds is its part, so that the parts
add up to the step whatever the model's formulas are. The other parts are the model's own.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from megalith.arithmetic import attended_tokens, flops_per_token
from megalith.job import Job
from megalith.planning.performance import Constants, StepTime, constants_for, predict_step
from megalith.planning.performance.attention_time import fused_share
from megalith.planning.performance.stacks import stack_of
from megalith.planning.performance.step_time import device_of

GROUPS = ("ideal", "kernels", "recomputation", "communication", "waiting", "optimizer")
"""Kinds of part, as the picture colours them."""

LEAST = 1e-9
"""Share of the step below which a part is rounding."""

_MODELS = {
    "recomputation": ("recomputation", "recomputation", "layers computed again for their backward pass"),
    "tensor communication": ("tensor and context, exposed", "communication", "sums that computing does not hide"),
    "pipeline sends": ("sends that a rank waits for", "communication", "between stages"),
    "weights gathered": ("weights gathered, exposed", "communication", "ZeRO-3's layers on their way"),
    "pipeline bubble": ("pipeline bubble", "waiting", "stages that wait for their first and after their last"),
    "data communication": ("gradients, exposed", "communication", "the data axis after the last backward pass"),
    "tied embeddings": ("tied embeddings", "communication", "summed between the first and the last stage"),
    "optimizer": ("optimizer", "optimizer", "moments, masters and weights through memory"),
    "stragglers": ("stragglers", "waiting", "for the slowest of the nodes"),
}
"""Parts of a predicted step: their name here, their group, and a word on what they are."""


class Part(NamedTuple):
    """One bar of the waterfall."""

    name: str
    group: str
    seconds: float
    """Negative where it takes time off: a causal mask's half that fused attention skips."""
    why: str


@dataclass(frozen=True)
class Waterfall:
    """A job's step; the parts' seconds add up to its own."""

    job: Job
    step: StepTime
    parts: tuple[Part, ...]


def waterfall(job: Job, constants: Constants | None = None) -> Waterfall:
    """The parts of the step of `job`, ideal FLOPs first. Raises RecipeError as `predict_step` does."""
    known = constants_for(job) if constants is None else constants
    step = predict_step(job, known)
    parts = [*_computing(job, known, step)]
    for name, seconds in step.parts.items():
        if name != "computing" and abs(seconds) > LEAST * step.seconds:
            parts.append(Part(*_named(name), seconds, _MODELS.get(name, ("", "", ""))[2]))
    return Waterfall(job, step, tuple(parts))


def _attention_share(job: Job, known: Constants) -> float:
    """Share of the peak that the forward of the software's fused attention reaches."""
    return known.fused_attention * fused_share(stack_of(job.stack).attention, device_of(job.cluster).generation)


def _named(name: str) -> tuple[str, str]:
    """Name and group; a part that is new to the model keeps its own name."""
    told = _MODELS.get(name, (name, "communication", ""))
    return told[0], told[1]


def _computing(job: Job, known: Constants, step: StepTime) -> list[Part]:
    """The computing of the busiest rank, taken apart."""
    model = job.model
    peak = device_of(job.cluster).peak(job.product_type) * job.accelerators
    whole = flops_per_token(model)
    scores = 6 if model.positions == "relative" else 4
    attention = 3 * model.layers * scores * attended_tokens(model) * model.query_width / whole
    ideal = whole * job.global_batch_size * model.sequence_length / peak
    free = replace(
        known, gemm=1.0, fp8_gemm=1.0, gemm_half_depth=0.0, quantisation=0.0, fused_attention=math.inf, memory=math.inf,
        launch_seconds=0.0, stack=1.0,
    )  # fmt: skip

    def computing(constants: Constants) -> float:
        return predict_step(job, constants, exact=False).parts["computing"]

    steps: dict[str, dict[str, Any]] = {
        "products below the peak": {"gemm": known.gemm, "fp8_gemm": known.fp8_gemm},
        "shapes of products": {"gemm_half_depth": known.gemm_half_depth, "quantisation": known.quantisation},
        "attention": {"fused_attention": known.fused_attention},
        "norms, activations, loss": {"memory": known.memory},
        "launches": {"launch_seconds": known.launch_seconds},
        "software": {"stack": known.stack},
    }
    why = {
        "products below the peak": f"the largest products reach {known.gemm:.0%} of it",
        "shapes of products": "short inner dimensions, tiles and waves that are not full",
        "attention": f"at {_attention_share(job, known):.0%} of the peak in {job.precision}, without the masked half",
        "norms, activations, loss": f"memory, at {known.memory:.0%} of its bandwidth",
        "launches": "of kernels, by the host",
        "software": f"{known.stack:.2f} times the kernels' time",
    }
    before = computing(free)
    parts = [
        Part("ideal FLOPs", "ideal", ideal, f"all of them at the peak of all {job.accelerators:,} accelerators"),
        Part(
            "uneven stages", "kernels", before - (1 - attention) * ideal, "layers of the busiest rank beyond the mean"
        ),
    ]
    now = free
    for name, turned_on in steps.items():
        now = replace(now, **turned_on)
        after = computing(now)
        less = attention * ideal if name == "attention" else 0.0  # stands among the ideal FLOPs
        parts.append(Part(name, "kernels", after - before - less, why[name]))
        before = after
    rest = step.parts["computing"] - before
    if abs(rest) > LEAST * step.seconds:
        parts.append(Part("other computing", "kernels", rest, ""))
    return [part for part in parts if abs(part.seconds) > LEAST * step.seconds]
