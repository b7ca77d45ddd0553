"""Actions of a pipeline rank: one operation of one stage on one micro-batch each.

A schedule is one list of actions a rank; sends, receives and the idle time between are no part of it: they follow from
the lists. Rank r holds the stages r, r + pipeline, r + 2·pipeline, …. An action is written as in the CSV notation of
torch.distributed.pipelining: `2F3` is the forward of stage 2 on micro-batch 3, all counted from 0.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Op(StrEnum):
    """A full backward is an input gradient and a weight gradient at once."""

    FORWARD = "F"
    BACKWARD = "B"
    INPUT_GRADIENT = "I"
    WEIGHT_GRADIENT = "W"


class Action(NamedTuple):
    """One operation of one stage on one micro-batch."""

    stage: int
    op: Op
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.op.value}{self.micro_batch}"


Lists = tuple[tuple[Action, ...], ...]
"""A schedule: the actions of each pipeline rank in the order in which it takes them."""

_NOTATION = re.compile("([0-9]{1,9})([FBIW])([0-9]{1,9})")


def parse(text: str) -> Action:
    """The action written as `text`. Raises ValueError for anything else."""
    match = _NOTATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is not an action")
    stage, op, micro_batch = match.groups()
    return Action(int(stage), Op(op), int(micro_batch))


def holder(stage: int, pipeline: int) -> int:
    """The rank that holds a stage."""
    return stage % pipeline


def in_flight(lists: Sequence[Sequence[Action]]) -> tuple[int, ...]:
    """For each rank, the most (stage, micro-batch) pairs whose activations it holds at once.

    A forward stores them, and the weight gradient, or the full backward, frees them. The unit is one stage's
    activations of one micro-batch: with virtual stages, a part of what the rank's layers store.
    """
    return tuple(_most_held(actions) for actions in lists)


def _most_held(actions: Sequence[Action]) -> int:
    held = most = 0
    for action in actions:
        if action.op is Op.FORWARD:
            held += 1
            most = max(most, held)
        elif action.op is not Op.INPUT_GRADIENT:
            held -= 1
    return most
