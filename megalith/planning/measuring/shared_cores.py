"""A pipeline whose ranks share the cores of one machine: how long an action takes depends on who else is at work.

The very lists that training runs, as in `performance.pipeline_timeline`, but an action proceeds at a rate given by the
number of ranks at work at the moment: with more processes than cores, a rank that waits leaves its core to the others.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence

from megalith.planning.performance.pipeline_timeline import Span, Timeline
from megalith.schedules import Action, Op, gives, holder, in_order, wants

ByActive = Mapping[Op, Sequence[float]]
"""Seconds of each operation of one stage: entry k − 1 while k ranks of the pipeline are at work."""
_DONE = 1e-12  # of an action: less is rounding


def play(lists: Sequence[Sequence[Action]], seconds: Sequence[ByActive], send_seconds: float = 0.0) -> Timeline:
    """Play a schedule; `seconds` has an entry for each stage. A message arrives `send_seconds` after its action's end.

    Raises RecipeError where the lists wait for one another for ever.
    """
    deque(in_order(lists), maxlen=0)
    last_stage = max((action.stage for actions in lists for action in actions), default=0)
    spans: list[list[Span]] = [[] for _ in lists]
    reached, left = [0] * len(lists), [1.0] * len(lists)
    began: list[float | None] = [None] * len(lists)
    ends: dict[Action, float] = {}
    now = 0.0
    while any(at < len(actions) for at, actions in zip(reached, lists, strict=True)):
        ready = {
            rank: _ready_at(actions[reached[rank]], rank, len(lists), last_stage, ends, send_seconds)
            for rank, actions in enumerate(lists)
            if reached[rank] < len(actions)
        }
        active = [rank for rank, at in ready.items() if at <= now]
        coming = min((at for at in ready.values() if at > now), default=math.inf)
        if not active:
            now = coming
            continue
        took = {rank: _seconds(lists[rank][reached[rank]], seconds, len(active)) for rank in active}
        then = min(coming, *(now + left[rank] * took[rank] for rank in active))
        for rank in active:
            start = began[rank] = now if (since := began[rank]) is None else since
            left[rank] -= (then - now) / took[rank] if took[rank] else 1.0
            if left[rank] <= _DONE:
                action = lists[rank][reached[rank]]
                spans[rank].append(Span(action, start, then))
                ends[gives(action)] = then
                reached[rank], left[rank], began[rank] = reached[rank] + 1, 1.0, None
        now = then
    return Timeline(tuple(tuple(row) for row in spans))


def _ready_at(
    action: Action, rank: int, pipeline: int, last_stage: int, ends: Mapping[Action, float], send_seconds: float
) -> float:
    """When all that the action wants is there; never, as far as is known now, where something has not been done."""
    at = 0.0
    for need in wants(action, last_stage):
        away = holder(need.stage, pipeline) != rank
        at = max(at, ends.get(need, math.inf) + (send_seconds if away else 0.0))
    return at


def _seconds(action: Action, seconds: Sequence[ByActive], active: int) -> float:
    """A full backward takes I + W where only these are given."""
    known = seconds[action.stage]
    if action.op is Op.BACKWARD and Op.BACKWARD not in known:
        return known[Op.INPUT_GRADIENT][active - 1] + known[Op.WEIGHT_GRADIENT][active - 1]
    return known[action.op][active - 1]
