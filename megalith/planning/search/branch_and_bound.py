"""The walk through the space: every candidate is looked at or ruled out, and the fastest that fit are kept.

Three cuts rule out whole branches, and each is a bound, not a guess:

- memory: where the choice that saves most does not fit, nothing at that place does, nor at a larger micro-batch;
- dominance: to compute again never saves time, nor does ZeRO 2 against ZeRO 1, so of each such chain the first that
  fits is the best;
- time: a place where the least computing, tensor-parallel traffic and bubble of any schedule together take longer than
  the layouts that are kept, cannot be among them.

Besides, gpipe is looked at only where it is asked for: it takes the time of 1f1b, or where sends are slow some percents
less, and holds every micro-batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from megalith.job import Job
from megalith.planning.performance import StepTime
from megalith.planning.search.candidate import Candidate, Evaluator, risk
from megalith.planning.search.space import Order, Place, Recomputation, Sharding, Space
from megalith.topology import Layout

KEPT = 8
"""Layouts of the three axes that are kept with their best settings."""
_ALIKE = 1.01  # memory: of what holds no more than this times the least, the fastest is taken


@dataclass
class SearchResult:
    """The best candidates, and how many were looked at."""

    best: list[Candidate] = field(default_factory=list)
    """The best of each layout of the axes, the fastest first."""
    considered: int = 0
    too_large: int = 0
    """Candidates ruled out by memory, whole branches among them."""


def fastest(space: Space, evaluator: Evaluator, most_seconds: float = math.inf, kept: int = KEPT) -> SearchResult:
    """The fastest candidates that fit and take at most `most_seconds` a step, one for each layout of the axes.

    What crosses nodes with its tensor groups counts as `candidate.CROSSING` slower.
    """
    searched = SearchResult()
    found: dict[tuple[Layout, int], Candidate] = {}
    bound = math.inf  # of merit
    floors = _floors(space, evaluator, searched)
    crossing = {layout: risk(layout, space.question.cluster) for layout, _ in space.axes()}
    for floor in sorted(floors, key=lambda floor: floor.seconds * crossing[floor.place.layout]):
        axes = floor.place.axes
        times = crossing[floor.place.layout]
        if floor.seconds * times > bound:
            break  # the others take longer still
        own = found.get(axes)
        most = min(bound / times, most_seconds, own.seconds if own else math.inf)
        candidate = _best_at(space, evaluator, floor, most)
        if candidate is not None:
            found[axes] = candidate
            merits = sorted(candidate.merit for candidate in found.values())
            bound = merits[kept - 1] if len(merits) >= kept else math.inf
    searched.best = sorted(found.values(), key=lambda candidate: candidate.merit)[:kept]
    return searched


def least_memory(space: Space, evaluator: Evaluator, most_seconds: float = math.inf, kept: int = KEPT) -> SearchResult:
    """The candidates that hold least, one for each layout of the axes, at their smallest micro-batch."""
    searched = SearchResult(considered=sum(space.size(place) for place in space.places()))
    found = []
    for place in space.smallest_places():
        held = sorted(
            ((evaluator.memory(job).worst.device_bytes, job) for job in _all(space, place)), key=itemgetter(0)
        )
        fitting = [pair for pair in held if pair[0] <= space.question.cluster.memory_bytes]
        searched.too_large += len(held) - len(fitting)
        best: Candidate | None = None
        most = math.inf
        for size, job in fitting:
            if size > most:
                break
            candidate = evaluator.weigh(job)
            if candidate.seconds <= most_seconds and (best is None or candidate.seconds < best.seconds):
                most = most if best else size * _ALIKE
                best = candidate
        if best is not None:
            found.append(best)
    searched.best = sorted(found, key=lambda candidate: candidate.memory_bytes)[:kept]
    return searched


def least_memory_candidates(space: Space, place: Place) -> Iterator[Job]:
    """The jobs at a place of which one holds least, the likeliest first.

    To compute whole layers again saves most, but where a stage has few of them: then the one in work is all there is.
    """
    orders = [order for order in space.orders(place) if order.virtual_stages == 1 and order.schedule != "gpipe"]
    orders = orders or space.orders(place)
    savings = dict.fromkeys([space.savings[-1], *space.savings[:2]]) if space.savings else ()
    for saving in savings:
        for sharding in reversed(space.shardings(place.layout)[-2:]):
            for order in orders:
                for split in space.splits(place.layout)[:1]:
                    yield space.job(place, order, saving, split, sharding)


class _Floor(NamedTuple):
    """A place where something fits."""

    seconds: float
    """Nothing there takes less."""
    place: Place
    steps: dict[tuple[Order, bool], StepTime]
    """By order and split, with the first way to save and the first sharding."""


def _floors(space: Space, evaluator: Evaluator, searched: SearchResult) -> Iterator[_Floor]:
    """Every place where something fits, with a time that nothing there goes below."""
    for _, group in groupby(space.places(), key=lambda place: place.axes):
        full = False
        for place in group:
            size = space.size(place)
            searched.considered += size
            full = full or not any(evaluator.fits(job) for job in least_memory_candidates(space, place))
            if full:
                searched.too_large += size
            elif size:
                yield _floor(space, evaluator, place)


def _floor(space: Space, evaluator: Evaluator, place: Place) -> _Floor:
    """The least computing, tensor-parallel traffic and bubble of any schedule there, each by itself."""
    sharding, saving = space.shardings(place.layout)[0], space.savings[0]
    work = bubble = math.inf
    steps = {}
    for order in space.orders(place):
        for split in space.splits(place.layout):
            step = steps[order, split] = evaluator.step(space.job(place, order, saving, split, sharding))
            work = min(work, step.parts["computing"] + step.parts["tensor communication"])
            bubble = min(bubble, step.parts["pipeline bubble"])
    return _Floor(work + bubble, place, steps)


def _best_at(space: Space, evaluator: Evaluator, floor: _Floor, bound: float) -> Candidate | None:
    """The fastest that fits at a place and takes less than `bound`: the likeliest branches first, while they may."""
    place, fixed = floor.place, "schedule" in space.question.fixed
    orders = [order for order in space.orders(place) if fixed or order.schedule != "gpipe"]
    timed = []
    for number, chain in enumerate(_chains(space.shardings(place.layout))):
        for order in orders:
            for split in space.splits(place.layout):
                branch = _Branch(order, split, chain)
                first = floor.steps[order, split] if number == 0 else None
                timed.append((first or evaluator.step(branch.job(space, place, space.savings[0], 0)), branch))
    best: Candidate | None = None
    for least, branch in sorted(timed, key=lambda pair: pair[0].seconds):
        if least.seconds >= bound:
            break
        found = _best_of(space, evaluator, place, branch, least, bound)
        if found is not None:
            best, bound = found, found.seconds
    return best


class _Branch(NamedTuple):
    """Choices of which the first to save and the first to shard take least time."""

    order: Order
    split: bool
    chain: list[Sharding]

    def job(self, space: Space, place: Place, saving: Recomputation, number: int) -> Job:
        return space.job(place, self.order, saving, self.split, self.chain[number])


def _best_of(
    space: Space, evaluator: Evaluator, place: Place, branch: _Branch, least: StepTime, bound: float
) -> Candidate | None:
    """The fastest of a branch that fits and takes less than `bound`; `least` is the step of its first choices.

    For each way to save, the first sharding of the chain that fits is the fastest; a way that costs more is of use only
    where it fits with less sharding.
    """
    best: Candidate | None = None
    whole = len(branch.chain)
    for kind, savings in groupby(space.savings, key=lambda saving: saving.recompute):
        reach = whole
        for saving in savings:
            if reach == 0:
                break
            first = least if saving == space.savings[0] else evaluator.step(branch.job(space, place, saving, 0))
            if first.seconds >= bound:
                break
            number = _first_that_fits(evaluator, [branch.job(space, place, saving, n) for n in range(reach)])
            if number is None:
                continue
            reach = number
            job = branch.job(space, place, saving, number)
            step = first if number == 0 else evaluator.step(job)
            if step.seconds < bound:
                bound = step.seconds
                best = Candidate(job, step, evaluator.memory(job))
        if kind == "none":
            whole = reach
    return best


def _first_that_fits(evaluator: Evaluator, jobs: list[Job]) -> int | None:
    """The number of the first job that fits, of jobs that each hold less than the one before."""
    if not evaluator.fits(jobs[-1]):
        return None
    return next((number for number, job in enumerate(jobs[:-1]) if evaluator.fits(job)), len(jobs) - 1)


def _chains(shardings: list[Sharding]) -> list[list[Sharding]]:
    """Stages of which each holds less than the one before and is no faster.

    ZeRO 0, 1 and 3 may each be the fastest: they send other bytes at other times. ZeRO 2 sends what ZeRO 1 does, or
    more often.
    """
    chains: dict[tuple[int, int | None], list[Sharding]] = {}
    for sharding in shardings:
        chains.setdefault((1 if sharding.zero == 2 else sharding.zero, sharding.shard), []).append(sharding)
    return list(chains.values())


def _all(space: Space, place: Place) -> Iterator[Job]:
    for order in space.orders(place):
        for split in space.splits(place.layout):
            for sharding in space.shardings(place.layout):
                for saving in space.savings:
                    yield space.job(place, order, saving, split, sharding)
