"""The search by objective: the shortest step, the least memory, or the fewest accelerators within a deadline.

The walk goes by the closed form of each schedule's bubble. The best few are then played action by action, and the
winner is the fastest of those.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from megalith.arithmetic import flops_per_token
from megalith.batches import tokens_per_step
from megalith.console import progress
from megalith.errors import MegalithError, ResourceError
from megalith.job import Job
from megalith.planning.performance.run_cost import Totals, run_totals
from megalith.planning.search.branch_and_bound import KEPT, SearchResult, fastest, least_memory
from megalith.planning.search.candidate import Candidate, Evaluator
from megalith.planning.search.infeasible import MOST_NODES, impossible
from megalith.planning.search.request import resized
from megalith.planning.search.space import Question, Space, divisors
from megalith.recipe import Recipe
from megalith.topology import Layout

Objective = Literal["time", "memory", "gpus"]
FINALISTS = 3
TIGHTENED = 5
"""Limits of the full step that are tried, before the fastest layout is taken for the least_memory in time."""
CLOSED_ERROR = 0.02
"""How far the closed form of a step lies from the action lists' as a rule: what is slower than the best that was played
by more is not played. (In 89 % of 756 layouts of five models; layers that do not divide, interleaved, are 18 % off.)"""


@dataclass(frozen=True)
class Request:
    """A run and what is wanted of it."""

    recipe: Recipe
    tokens: int
    objective: Objective
    deadline_days: float
    """Infinite without one."""
    price: float | None
    """Price of one accelerator for an hour."""

    @property
    def most_seconds(self) -> float:
        """Longest full step with which the run is over in time: a ramp only adds to it."""
        return self.deadline_days * 86400 / math.ceil(self.tokens / tokens_per_step(self.recipe))


@dataclass(frozen=True)
class Answer:
    """The winner, played exactly, and the runners-up by the closed form."""

    best: Candidate
    closed: Candidate
    """The winner by the closed form: what the others are compared with."""
    played: Mapping[Job, float]
    """Seconds of all that were played."""
    searched: SearchResult
    space: Space
    evaluator: Evaluator


def best_for(request: Request, question: Question, evaluator: Evaluator) -> tuple[Answer, Totals] | None:
    """The best layout and the run in it; None where none fits."""
    if request.objective == "gpus":
        return _fewest(request, question, evaluator)
    if request.objective == "memory":
        return _least_memory_in_time(request, Space(question), evaluator)
    return _in_time(request, best_layout(question, evaluator, request.most_seconds))


def why_none(request: Request, question: Question, evaluator: Evaluator) -> MegalithError:
    """Why `best_for` found nothing, and the nearest that can be."""
    if request.objective == "gpus":
        return _never(request, question)
    found = None if math.isinf(request.deadline_days) else best_layout(question, evaluator)
    if found is None:
        return impossible(question, evaluator, lambda nodes: resized(request.recipe, nodes))
    days = _totals(request, found).days
    enough = _fewest(request, question, evaluator)
    if enough is None:
        mend = f"Set --deadline {math.ceil(days)}; {_never(request, question).what}"
    else:
        mend = f"Set cluster.nodes={enough[0].best.job.cluster.nodes}, the fewest that do."
    return ResourceError(
        f"the fastest layout on {question.cluster.nodes} nodes takes {days:.1f} days, and "
        f"{request.deadline_days:g} are given.",
        where="--deadline",
        mend=mend,
    )


def best_layout(
    question: Question, evaluator: Evaluator, most_seconds: float = math.inf, *, kept: int = KEPT
) -> Answer | None:
    """The fastest layout that fits and takes at most `most_seconds` a step; None where none fits.

    It is the same whatever `kept`, but with FINALISTS the search rules out more; there are as few runners-up.
    """
    space = Space(question)
    return _settle(space, evaluator, fastest(space, evaluator, most_seconds, kept), FINALISTS)


def _settle(space: Space, evaluator: Evaluator, searched: SearchResult, finalists: int) -> Answer | None:
    """The fastest of the first few, played; those that are not near the best so far are not."""
    found: Answer | None = None
    played: dict[Job, float] = {}
    for closed in searched.best[:finalists]:
        if found is not None and closed.merit > found.best.merit * (1 + CLOSED_ERROR):
            break
        exact = replace(closed, step=evaluator.step(closed.job, exact=True))
        played[closed.job] = exact.seconds
        if found is None or exact.merit < found.best.merit:
            found = Answer(exact, closed, played, searched, space, evaluator)
    return found


def _least_memory_in_time(request: Request, space: Space, evaluator: Evaluator) -> tuple[Answer, Totals] | None:
    """The layout that holds least and is over in time: what its ramp adds makes the full step's limit the tighter."""
    limit = request.most_seconds
    for _ in range(TIGHTENED):
        found = _settle(space, evaluator, least_memory(space, evaluator, limit), finalists=1)
        if found is None:
            break
        totals = _totals(request, found)
        if totals.days <= request.deadline_days:
            return found, totals
        limit = found.closed.seconds * min(0.999, request.deadline_days / totals.days)
    return _in_time(request, best_layout(space.question, evaluator, request.most_seconds))


def _in_time(request: Request, found: Answer | None) -> tuple[Answer, Totals] | None:
    """The answer with its run, if that is over in time, its ramp included."""
    if found is None:
        return None
    totals = _totals(request, found)
    return (found, totals) if totals.days <= request.deadline_days else None


def _fewest(request: Request, question: Question, evaluator: Evaluator) -> tuple[Answer, Totals] | None:
    """The layout on the fewest nodes that has the run over in time, from those that could at their peak."""
    cluster = question.cluster
    peak = (cluster.peak_flops_per_second or math.inf) * cluster.accelerators_per_node
    least = math.ceil(flops_per_token(request.recipe.model) * request.tokens / peak / (request.deadline_days * 86400))
    least = max(least, _least_nodes(request, question, evaluator))
    most = cluster.most_nodes or MOST_NODES
    with progress() as bar:
        task = bar.add_task("Trying numbers of nodes", total=most, completed=max(1, least) - 1)
        for nodes in range(max(1, least), most + 1):
            asked = replace(question, cluster=resized(request.recipe, nodes))
            ended = _in_time(request, best_layout(asked, evaluator, request.most_seconds))
            if ended is not None:
                return ended
            bar.advance(task)
    return None


def _least_nodes(request: Request, question: Question, evaluator: Evaluator) -> int:
    """Nodes below which no layout ends in time: computing and tensor-parallel traffic alone, spread over all evenly.

    A pipeline's busiest rank takes the mean of its ranks at least, so no depth does better.
    """
    per_node = question.cluster.accelerators_per_node
    work = math.inf  # accelerator-seconds of a sequence
    for tensor in Space(question).tensors:
        most = question.cluster.most_nodes or MOST_NODES
        cluster = resized(request.recipe, min(most, -(-tensor // per_node)))
        layout = Layout(tensor, 1, 1)
        for size in divisors(question.global_batch_size):
            for split in (False, True) if tensor > 1 else (False,):
                job = Job(
                    question.model, cluster, layout, size, size, sequence_parallel=split, precision=question.precision
                )
                parts = evaluator.step(job).parts
                work = min(work, (parts["computing"] + parts["tensor communication"]) * tensor / size)
    return math.ceil(work * question.global_batch_size / request.most_seconds / per_node)


def _never(request: Request, question: Question) -> ResourceError:
    return ResourceError(
        f"no number of {question.cluster.name}'s nodes ends this run within {request.deadline_days:g} days.",
        where="--deadline",
        mend="Set more days, fewer train.tokens, or a larger train.global_batch_size, which more accelerators can "
        "share.",
    )


def _totals(request: Request, found: Answer) -> Totals:
    """The run, at the closed form's step for each batch, brought to the exact one at the full batch."""
    best = found.best
    share = best.seconds / found.closed.seconds
    return run_totals(
        request.recipe,
        best.job,
        request.tokens,
        lambda job: share * found.evaluator.step(job).seconds,
        (best.step.interval[0] / best.seconds, best.step.interval[1] / best.seconds),
        price=request.price,
    )
