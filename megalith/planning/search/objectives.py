"""The search by what is wanted: the shortest step, the least memory, or the fewest accelerators within a deadline.

The walk goes by the closed form of each schedule's bubble. The best few are then played action by action, and the
winner is the fastest of those.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from megalith.arithmetic import flops_per_token
from megalith.errors import MegalithError, RecipeError, ResourceError
from megalith.planning.search.nearest import MOST_NODES, impossible
from megalith.planning.search.question import resized
from megalith.planning.search.space import Question, Space
from megalith.planning.search.walk import Walked, fastest, leanest
from megalith.planning.search.weigh import Scales, Weighed
from megalith.planning.totals import Totals, run_totals
from megalith.recipe import Recipe
from megalith.topology import Cluster

Objective = Literal["time", "memory", "gpus"]
FINALISTS = 3
CLOSED_ERROR = 0.02
"""How far the closed form of a step may lie from the action lists': what is slower by more is not played."""


@dataclass(frozen=True)
class Wanted:
    """What the run is and what is wanted of it."""

    recipe: Recipe
    tokens: int
    objective: Objective
    deadline_days: float | None
    price: float | None
    """Of one accelerator for an hour."""

    @property
    def most_seconds(self) -> float:
        """Of a full step, if the run is to be over in time: a ramp only adds to it."""
        if self.deadline_days is None:
            return math.inf
        train, model = self.recipe.train, self.recipe.model
        return self.deadline_days * 86400 / math.ceil(self.tokens / (train.global_batch_size * model.sequence_length))


@dataclass(frozen=True)
class Found:
    """The winner, played exactly, and the runners-up by the closed form."""

    best: Weighed
    closed: Weighed
    """The winner by the closed form: what the others are compared with."""
    walked: Walked
    space: Space
    scales: Scales


def best_for(wanted: Wanted, question: Question, scales: Scales) -> tuple[Found, Totals]:
    """The best layout and the run in it. Raises RecipeError or ResourceError, with the nearest that can be."""
    if wanted.objective == "gpus":
        if wanted.deadline_days is None:
            raise RecipeError(
                "the fewest GPUs are those that end in time.", where="--for gpus", mend="Give --deadline DAYS."
            )
        return _fewest(wanted, question, scales)
    if wanted.objective == "memory":
        space = Space(question)
        walked = leanest(space, scales, wanted.most_seconds)
        found = _settle(space, scales, walked, walked.best[:1], by_time=False) if walked.best else None
    else:
        found = best_layout(question, scales, wanted.most_seconds)
    if found is not None:
        totals = _totals(wanted, found)
        if totals.days <= (wanted.deadline_days or math.inf):
            return found, totals
    raise _too_late(wanted, question, scales)


def best_layout(question: Question, scales: Scales, most_seconds: float = math.inf) -> Found | None:
    """The fastest layout that fits and takes at most `most_seconds` a step; None where there is none."""
    space = Space(question)
    walked = fastest(space, scales, most_seconds)
    if not walked.best:
        return None
    near = [one for one in walked.best[:FINALISTS] if one.seconds <= walked.best[0].seconds * (1 + CLOSED_ERROR)]
    return _settle(space, scales, walked, near, by_time=True)


def _settle(space: Space, scales: Scales, walked: Walked, finalists: Iterable[Weighed], *, by_time: bool) -> Found:
    played = [(replace(one, step=scales.step(one.job, exact=True)), one) for one in finalists]
    best, closed = min(played, key=lambda pair: pair[0].seconds if by_time else pair[0].memory_bytes)
    return Found(best, closed, walked, space, scales)


def _fewest(wanted: Wanted, question: Question, scales: Scales) -> tuple[Found, Totals]:
    """The layout on the fewest nodes that has the run over in time."""
    days = wanted.deadline_days or math.inf
    for nodes in _enough(wanted, question.cluster, days):
        found = best_layout(replace(question, cluster=resized(wanted.recipe, nodes)), scales, wanted.most_seconds)
        if found is not None:
            totals = _totals(wanted, found)
            if totals.days <= days:
                return found, totals
    raise ResourceError(
        f"no number of {question.cluster.name}'s nodes ends this run within {days:g} days.",
        where="--deadline",
        mend="Give more days, fewer train.tokens, or a larger train.global_batch_size, which more accelerators can "
        "share.",
    )


def _enough(wanted: Wanted, cluster: Cluster, days: float) -> range:
    """Numbers of nodes from the fewest that could do it at the peak of their accelerators."""
    peak = (cluster.peak_flops_per_second or math.inf) * cluster.accelerators_per_node
    least = math.ceil(flops_per_token(wanted.recipe.model) * wanted.tokens / peak / (days * 86400))
    return range(max(1, least), (cluster.most_nodes or MOST_NODES) + 1)


def _too_late(wanted: Wanted, question: Question, scales: Scales) -> MegalithError:
    """Why nothing was found: without the deadline nothing fits either, or something does, and is too slow."""
    found = best_layout(question, scales)
    if found is None or wanted.deadline_days is None:
        return impossible(question, scales, lambda nodes: resized(wanted.recipe, nodes))
    days = _totals(wanted, found).days
    try:
        enough, _ = _fewest(wanted, question, scales)
        mend = f"Give cluster.nodes={enough.best.job.cluster.nodes}, the fewest that do."
    except ResourceError as error:
        mend = f"Give --deadline {math.ceil(days)}; {error.what}"
    return ResourceError(
        f"the fastest layout on {question.cluster.nodes} nodes takes {days:.1f} days, and "
        f"{wanted.deadline_days:g} are given.",
        where="--deadline",
        mend=mend,
    )


def _totals(wanted: Wanted, found: Found) -> Totals:
    """The run, at the closed form's step for each batch, brought to the exact one at the full batch."""
    best = found.best
    share = best.seconds / found.closed.seconds
    return run_totals(
        wanted.recipe,
        best.job,
        wanted.tokens,
        lambda job: share * found.scales.step(job).seconds,
        (best.step.interval[0] / best.seconds, best.step.interval[1] / best.seconds),
        price=wanted.price,
    )
