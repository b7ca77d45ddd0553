"""One training step as blocks of time: what each pipeline rank computes and sends, and what it holds meanwhile.

The pipeline is `simulation.simulate` of the schedule's own lists. What follows the last backward is as training has it
(`training.step`): each rank reduces its gradients once it is through; the norm waits for all of them; then the
optimizer moves the weights. What runs beside the backward, and the tensor-parallel collectives within an action, have
no blocks of their own: they are in the actions' durations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, NamedTuple

from megalith.planning.performance.pipeline_timeline import Durations, Timeline, simulate
from megalith.schedules import Action, Lists, Op, holder, in_flight

Clock = Literal["seconds", "forwards"]


class Kind(StrEnum):
    """The use of a block of time. Time in no block of a rank's work is the bubble."""

    FORWARD = "forward"
    BACKWARD = "backward"
    INPUT_GRADIENT = "input gradient"
    WEIGHT_GRADIENT = "weight gradient"
    SEND = "send"
    REDUCTION = "data-parallel reduction"
    OPTIMIZER = "optimizer"


OF_OP = {
    Op.FORWARD: Kind.FORWARD,
    Op.BACKWARD: Kind.BACKWARD,
    Op.INPUT_GRADIENT: Kind.INPUT_GRADIENT,
    Op.WEIGHT_GRADIENT: Kind.WEIGHT_GRADIENT,
}


class Block(NamedTuple):
    """A stretch of a rank's time; `action` is None after the pipeline, and the sender's for a send."""

    kind: Kind
    start_seconds: float
    end_seconds: float
    action: Action | None = None


@dataclass(frozen=True)
class Timing:
    """How long everything takes."""

    durations: Sequence[Durations]
    """Seconds of each stage, as `simulate` takes them."""
    send_seconds: Sequence[float]
    """Between stages s and s + 1, there or back."""
    reduction_seconds: float = 0.0
    optimizer_seconds: float = 0.0
    clock: Clock = "seconds"
    """Unit of all of these: seconds, or forwards, where a rank's forward of one micro-batch is the unit."""


@dataclass(frozen=True)
class Held:
    """Memory of each rank."""

    resident_bytes: Sequence[float]
    """Bytes that each rank always holds: weights, gradients, optimizer."""
    micro_batch_bytes: Sequence[float]
    """Activations of one micro-batch in each stage, from its forward to its weight gradient or full backward."""
    backward_bytes: Sequence[float] = ()
    """Bytes that a backward of one micro-batch needs beside, in each stage: from its begin to its end, or where it is
    cut, to the end of its weight gradient. None where empty."""
    capacity_bytes: float | None = None
    """The accelerator's memory."""


@dataclass(frozen=True)
class Step:
    """A step of one schedule."""

    schedule: str
    lists: Lists
    timing: Timing
    held: Held | None
    """None where bytes are not known: micro-batches are counted then."""

    @cached_property
    def pipeline(self) -> Timeline:
        """The actions and their times."""
        return simulate(self.lists, self.timing.durations, self.timing.send_seconds)

    @cached_property
    def work(self) -> tuple[tuple[Block, ...], ...]:
        """Blocks of each rank's work, one after another."""
        ended = [spans[-1].end_seconds if spans else 0.0 for spans in self.pipeline.ranks]
        reduced = [end + self.timing.reduction_seconds for end in ended]
        norm = max(reduced)
        return tuple(
            (
                *(Block(OF_OP[span.action.op], span.start_seconds, span.end_seconds, span.action) for span in spans),
                *_lasting(Kind.REDUCTION, end, self.timing.reduction_seconds),
                *_lasting(Kind.OPTIMIZER, norm, self.timing.optimizer_seconds),
            )
            for spans, end in zip(self.pipeline.ranks, ended, strict=True)
        )

    @cached_property
    def sends(self) -> tuple[tuple[Block, ...], ...]:
        """Blocks of each rank's sends to its neighbours, beside its work."""
        return tuple(tuple(self._sends_of(rank)) for rank in range(len(self.lists)))

    @cached_property
    def memory(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """For each rank, (seconds, bytes from then on).

        Without `held`, micro-batches for bytes: one's activations in one of n virtual stages are an n-th of it.
        """
        return tuple(tuple(self._memory_of(rank)) for rank in range(len(self.lists)))

    @cached_property
    def step_seconds(self) -> float:
        """To the end of the last block on any rank."""
        return max((blocks[-1].end_seconds for blocks in self.work if blocks), default=0.0)

    @cached_property
    def bubble_fractions(self) -> tuple[float, ...]:
        """The part of the step in which each rank does nothing."""
        busy = (sum(block.end_seconds - block.start_seconds for block in blocks) for blocks in self.work)
        return tuple(1 - seconds / self.step_seconds if self.step_seconds else 0.0 for seconds in busy)

    @property
    def bubble_fraction(self) -> float:
        """Share of the time of all ranks together."""
        return sum(self.bubble_fractions) / len(self.lists)

    @cached_property
    def in_flight(self) -> tuple[int, ...]:
        """For each rank, the most (stage, micro-batch) pairs held at once."""
        return in_flight(self.lists)

    @cached_property
    def peaks(self) -> tuple[float, ...]:
        """The most that each rank holds at once, in the unit of `memory`."""
        return tuple(max((amount for _, amount in points), default=0.0) for points in self.memory)

    @property
    def stages(self) -> int:
        return len(self.timing.durations)

    def _sends_of(self, rank: int) -> Iterator[Block]:
        ranks = len(self.lists)
        for span in self.pipeline.ranks[rank]:
            to = _reader(span.action, self.stages)
            if to is None or holder(to, ranks) == rank:
                continue
            seconds = self.timing.send_seconds[min(to, span.action.stage)]
            yield from _lasting(Kind.SEND, span.end_seconds, seconds, span.action)

    def _memory_of(self, rank: int) -> Iterator[tuple[float, float]]:
        now = self.held.resident_bytes[rank] if self.held else 0.0
        yield 0.0, now
        for span in self.pipeline.ranks[rank]:
            stage, op, _ = span.action
            amount = self.held.micro_batch_bytes[stage] if self.held else len(self.lists) / self.stages
            beside = self.held.backward_bytes[stage] if self.held and self.held.backward_bytes else 0.0
            if op is Op.FORWARD:
                now += amount
                yield span.start_seconds, now
            elif op is not Op.WEIGHT_GRADIENT and beside:
                now += beside
                yield span.start_seconds, now
            if op in (Op.BACKWARD, Op.WEIGHT_GRADIENT):
                now -= amount + beside
                yield span.end_seconds, now
        yield self.step_seconds, now


def kinds_of(steps: Sequence[Step]) -> list[Kind]:
    """The kinds of which these steps have a block, in the order of `Kind`."""
    there = {block.kind for step in steps for rows in (step.work, step.sends) for blocks in rows for block in blocks}
    return [kind for kind in Kind if kind in there]


def _lasting(kind: Kind, start: float, seconds: float, action: Action | None = None) -> Iterator[Block]:
    """One block, or none where it takes no time."""
    if seconds > 0:
        yield Block(kind, start, start + seconds, action)


def _reader(action: Action, stages: int) -> int | None:
    """The stage that waits for what `action` gives."""
    if action.op is Op.WEIGHT_GRADIENT:
        return None
    to = action.stage + (1 if action.op is Op.FORWARD else -1)
    return to if 0 <= to < stages else None
