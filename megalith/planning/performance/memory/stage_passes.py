"""The peak of a rank of our own training, `megalith.parallel`, from the tapes of what it runs.

A pipeline rank is at its peak when the most micro-batches are in flight: in the forward pass of the last of them, or in
the backward pass that follows. What the dry run counts is what is counted here.
"""

from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import NamedTuple

from megalith.planning.performance.memory.embedding_and_loss import (
    embedding_backward,
    embedding_forward,
    loss_backward,
    loss_forward,
)
from megalith.planning.performance.memory.layers import layer_backward, layer_forward, layer_input_gradient
from megalith.planning.performance.memory.tape import Segment
from megalith.planning.performance.memory.tensor_bytes import Sizes, StageSettings, sizes
from megalith.planning.performance.memory.zero import (
    embeddings_wait,
    gathered_backward,
    gathered_forward,
    reduced_embeddings,
)
from megalith.precision import FP32_BYTES
from megalith.recipe import ModelConfig
from megalith.schedules.closed_forms import most_in_flight


class StagePasses(NamedTuple):
    """One micro-batch through one stage."""

    forward: Segment
    """Leaves what is kept until the backward pass, the stage's input and output among it."""
    backward: Segment
    input_gradient: Segment
    """A backward pass that leaves the gradients of weights for later."""
    loss: float
    """How much of the forward pass's peak is the loss's."""


@lru_cache(maxsize=65536)
def stage_passes(
    model: ModelConfig,
    settings: StageSettings,
    first_layer: int,
    layers: int,
    *,
    is_first_stage: bool,
    is_last_stage: bool,
) -> StagePasses:
    """The passes of a stage of so many layers."""
    s = sizes(model, settings)
    pipelined = not (is_first_stage and is_last_stage)
    tied = model.tie_embeddings and not pipelined
    waits = embeddings_wait(settings, pipelined=pipelined)
    kinds = _period(settings, first_layer)
    forward = embedding_forward(s) if is_first_stage else Segment(s.stream, s.stream)
    forward = forward.then(
        _repeated([gathered_forward(s, layer_forward(s, kind), settings.zero) for kind in kinds], layers)
    )
    loss = 0.0
    if is_last_stage:
        kept, forward = forward.net, forward.then(loss_forward(s))
        loss = max(0.0, forward.peak - kept)
        backward = loss_backward(s, holds=tied or waits)
        inputs = Segment(2 * s.stream, backward.peak)
    else:
        backward = inputs = Segment(s.stream, s.stream)
    table = s.table if is_last_stage and not tied else 0.0
    root = (s.table + s.positions_table if is_first_stage else 0.0) + table
    wide_root = root / s.embedding_bytes * FP32_BYTES
    kinds = _backwards(kinds, layers)
    inputs = inputs.then(_repeated([layer_input_gradient(s, kind) for kind in kinds], layers))

    def gathered(kind: str, *, first: bool = False, last: bool = False) -> Segment:
        one, at_root = layer_backward(s, kind), wide_root if settings.several else 0.0
        return gathered_backward(s, one, settings, pipelined=pipelined, first=first, last=last, root=at_root)

    inner = layers
    if s.shared and layers:  # the first layer and the last one differ
        backward = backward.then(gathered(kinds[0], first=True, last=layers == 1))
        kinds, inner = kinds[1:] + kinds[:1], layers - 2
    backward = backward.then(_repeated([gathered(kind) for kind in kinds], inner))
    if s.shared and layers > 1:
        backward = backward.then(gathered(kinds[inner % len(kinds)], last=True))
    if is_first_stage:
        backward = backward.then(embedding_backward(s, s.table if tied else 0.0, waits=waits))
    backward = reduced_embeddings(s, backward, settings.zero, pipelined=pipelined, tables=root if waits else 0.0)
    return StagePasses(forward, backward, inputs, loss)


def _period(settings: StageSettings, first_layer: int) -> list[str]:
    """The recomputation of each layer from the first on, until it repeats."""
    every = 1 if settings.recompute == "none" else settings.recompute_every
    return ["none" if number % every else settings.recompute for number in range(first_layer, first_layer + every)]


def _backwards(kinds: list[str], layers: int) -> list[str]:
    """The period as it is from the last of the layers to the first."""
    return [kinds[(layers - 1 - number) % len(kinds)] for number in range(len(kinds))]


def _repeated(period: Sequence[Segment], layers: int) -> Segment:
    """So many layers, one after the other."""
    whole, rest = divmod(max(0, layers), len(period))
    return reduce(Segment.then, period, Segment()).times(whole).then(reduce(Segment.then, period[:rest], Segment()))


class RankPeak(NamedTuple):
    """Bytes at the peak of a pipeline rank, but for what it holds from step to step."""

    activations: float
    logits: float
    working: float
    buffers: float

    @property
    def total(self) -> float:
        return self.activations + self.logits + self.working + self.buffers


class PeakState(NamedTuple):
    """The micro-batches in flight on a pipeline rank when it is at its peak."""

    most: int
    """(stage, micro-batch) pairs in flight."""
    held: tuple[int, ...]
    """Micro-batches in flight in each of its stages before a last forward pass."""
    last: int
    """The stage of that forward pass, and the one whose backward pass follows it."""
    late: int
    """Those in flight that wait for the gradients of their weights alone."""
    receives: bool
    """Whether the next input arrives during the backward pass."""


@lru_cache(maxsize=65536)
def pipeline_peak_state(schedule: str, rank: int, pipeline: int, virtual_stages: int, micro_batches: int) -> PeakState:
    """By the closed forms of the schedules."""
    most = most_in_flight(schedule, rank, pipeline, virtual_stages, micro_batches)
    late = min({"zb-h1": rank, "zb-h2": 2 * rank}.get(schedule, 0), max(0, micro_batches - 1))
    held = [0] * virtual_stages
    for number in range(most - 1):
        held[number // pipeline % virtual_stages] += 1
    last = (most - 1) // pipeline % virtual_stages
    more = most < micro_batches * virtual_stages
    return PeakState(most, tuple(held), last, late, more and (rank > 0 or virtual_stages > 1) and pipeline > 1)


def rank_peak(passes: Sequence[StagePasses], stream: float, turn: PeakState) -> RankPeak:
    """`passes` of the rank's stages in their order; `stream` is what goes from stage to stage."""
    kept = sum(count * each.forward.net for count, each in zip(turn.held, passes, strict=True))
    now = passes[turn.last]
    if turn.late:
        waits = turn.late * now.input_gradient.net
        forward = kept + waits + now.forward.peak
        backward = kept + waits + now.forward.net + now.input_gradient.peak + stream
    else:
        waits = 0.0
        forward = kept + now.forward.peak
        last = passes[-1] if len(passes) > 1 else now
        backward = kept + now.forward.net + last.backward.peak
    buffers = stream if turn.receives else 0.0
    if forward >= backward + buffers:
        logits = min(now.loss, now.forward.peak)
        rest = now.forward.peak - logits
        return RankPeak(kept + min(rest, now.forward.net), logits, waits + max(0.0, rest - now.forward.net), 0.0)
    held = kept + now.forward.net
    return RankPeak(held, 0.0, backward - held, buffers)


def batch_bytes(s: Sizes, micro_batches: int) -> float:
    """Tokens and targets of a step, which all lie ready."""
    return 2.0 * 8 * s.tokens * micro_batches
