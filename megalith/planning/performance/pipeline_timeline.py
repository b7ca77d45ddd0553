"""The time of a pipeline schedule: the very lists that training runs, played with given seconds for each stage.

A rank takes its actions in the order of its list, each as soon as the rank is free and what the action needs is there;
a message to another rank arrives `send_seconds` after its action has ended, and keeps no rank busy. Links are never
full, and memory is not counted (`schedules.in_flight`). Whatever comes after the last backward (gradient reduction, the
optimizer) is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from megalith.schedules import Action, Op, gives, holder, in_order, wants

Durations = Mapping[Op, float]
"""Seconds of each operation of one stage on one micro-batch. Without a B, a full backward takes I + W."""


class Span(NamedTuple):
    """An action and when it happens, from the start of the step."""

    action: Action
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Timeline:
    """When each rank does what."""

    ranks: tuple[tuple[Span, ...], ...]

    @cached_property
    def step_seconds(self) -> float:
        """From the first start to the last end on any rank."""
        return max((spans[-1].end_seconds for spans in self.ranks if spans), default=0.0)

    @cached_property
    def busy_seconds(self) -> tuple[float, ...]:
        """Seconds that each rank computes."""
        return tuple(sum(span.end_seconds - span.start_seconds for span in spans) for spans in self.ranks)

    @cached_property
    def bubble_fractions(self) -> tuple[float, ...]:
        """The part of the step for which each rank is idle, its waits at the start and at the end among them."""
        return tuple(1 - busy / self.step_seconds if self.step_seconds else 0.0 for busy in self.busy_seconds)

    @cached_property
    def longest_rank_seconds(self) -> float:
        """The most that passes on any one rank from its first start to its last end.

        The "cost" of 2401.10241's bubble rates: shorter than the step where the ranks that begin late also end late. It
        is what one more step takes, if each rank goes on to it without waiting for the others.
        """
        return max((spans[-1].end_seconds - spans[0].start_seconds for spans in self.ranks if spans), default=0.0)


def simulate(
    lists: Sequence[Sequence[Action]],
    durations: Durations | Sequence[Durations],
    send_seconds: float | Sequence[float] = 0.0,
) -> Timeline:
    """Play a schedule. `durations` are those of every stage, or a sequence of one mapping a stage; `send_seconds` is
    the time of a message between any two ranks, or one entry for each pair of stages s, s + 1, there or back.

    Raises RecipeError where the lists wait for one another for ever; `schedules.check` looks at the rest.
    """
    pipeline = len(lists)
    last_stage = max((action.stage for actions in lists for action in actions), default=0)
    seconds = _by_stage(durations, last_stage + 1)
    hops = [send_seconds] * last_stage if isinstance(send_seconds, float | int) else send_seconds
    spans: list[list[Span]] = [[] for _ in lists]
    ends: dict[Action, float] = {}
    free = [0.0] * pipeline
    for rank, action in in_order(lists):
        start = free[rank]
        for need in wants(action, last_stage):
            away = holder(need.stage, pipeline) != rank
            start = max(start, ends[need] + (hops[min(need.stage, action.stage)] if away else 0.0))
        end = start + seconds[action.stage][action.op]
        spans[rank].append(Span(action, start, end))
        ends[gives(action)] = free[rank] = end
    return Timeline(tuple(tuple(row) for row in spans))


def _by_stage(durations: Durations | Sequence[Durations], stages: int) -> list[dict[Op, float]]:
    """Seconds by stage and operation, with a full backward for each stage."""
    given = [durations] * stages if isinstance(durations, Mapping) else durations
    return [{Op.BACKWARD: one.get(Op.INPUT_GRADIENT, 0.0) + one.get(Op.WEIGHT_GRADIENT, 0.0), **one} for one in given]
