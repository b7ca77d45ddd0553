"""The log-likelihoods of spans, as passes over a prefix tree give them one after another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megalith.inference.load import LanguageModel, not_finite
from megalith.inference.prefix_tree import PassPlan, Places, depth_first
from megalith.inference.scorer import Scorer
from megalith.inference.spans import Ids, Window

INVARIANT_TOKENS = 4096
"""The tokens of a pass where results may not depend on those of a batch."""


@dataclass(frozen=True)
class Progress:
    """The results so far, of all spans."""

    log_probabilities: NDArray[np.float64]
    """Nats (S)."""
    greedy: NDArray[np.bool_]
    """Whether each scored token is the first choice (S)."""
    groups_done: list[int]
    """Groups that are scored since the last time, by number."""
    done: int
    """Groups that are scored in all."""
    read: int
    """Tokens that have been read, of `tokens`."""
    tokens: int


def log_likelihoods(
    lm: LanguageModel,
    scorer: Scorer,
    spans: Sequence[Ids],
    groups: Sequence[Sequence[Window]],
    batch_tokens: int,
    *,
    batch_invariant: bool,
) -> Iterator[Progress]:
    """Score the windows of spans, which belong together in groups; every window of a span is in the same group.

    Groups share what they read, unless results are to be `batch_invariant`. Data-parallel ranks have a part each, and
    know nothing of the whole before the end. Raises InputError where logits are not finite.
    """
    apart = groups if batch_invariant else [[window for group in groups for window in group]]
    plan = PassPlan(
        spans,
        _own_part(spans, apart, scorer.data_index, scorer.data_size),
        INVARIANT_TOKENS if batch_invariant else batch_tokens,
        lm.config.sliding_window,
    )
    found = np.zeros(len(spans))
    greedy = np.ones(len(spans), np.bool_)
    ends = _ends(plan, groups)
    order = np.argsort(ends, kind="stable")
    done = 0
    for step in plan.passes():
        log_probabilities, first_choice = (each.cpu().numpy() for each in scorer.score(step))
        np.add.at(found, step.owners, log_probabilities)
        np.logical_and.at(greedy, step.owners, first_choice)
        if scorer.data_size == 1:
            before, done = done, int(np.searchsorted(ends[order], step.read, side="right"))
            yield _checked(Progress(found, greedy, order[before:done].tolist(), done, step.read, plan.tokens))
    if scorer.data_size > 1:
        found, missed = scorer.sum(found), scorer.sum((~greedy).astype(np.float64))
        numbers = list(range(len(groups)))
        yield _checked(Progress(found, missed == 0, numbers, len(groups), plan.tokens, plan.tokens))
    elif done < len(groups):  # those without a token to score
        yield Progress(found, greedy, order[done:].tolist(), len(groups), plan.tokens, plan.tokens)


def _checked(progress: Progress) -> Progress:
    if not math.isfinite(float(progress.log_probabilities.sum())):
        raise not_finite()
    return progress


def _ends(plan: PassPlan, groups: Sequence[Sequence[Window]]) -> Places:
    """For each group, how many tokens are read when it is scored."""
    return np.array([max((plan.ends[window.owner] for window in group), default=0) for group in groups], np.int64)


def _own_part(spans: Sequence[Ids], groups: Sequence[Sequence[Window]], index: int, size: int) -> list[list[Window]]:
    """The windows of a data-parallel rank, about as many tokens as the others', those of a prefix side by side."""
    if size == 1:
        return [list(group) for group in groups]
    own = []
    read = 0
    total = sum(window.length for group in groups for window in group)
    for group in groups:
        part = []
        for window in depth_first(spans, group):
            if read * size // total == index:
                part.append(window)
            read += window.length
        if part:
            own.append(part)
    return own
