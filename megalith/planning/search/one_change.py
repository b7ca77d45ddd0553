"""The winner with one thing changed: for each choice, what the other ways would have come to."""

from collections.abc import Iterator
from dataclasses import replace

from megalith.job import ZERO_STAGES, Job
from megalith.planning.search.candidate import Candidate, Evaluator
from megalith.planning.search.space import Order, Place, Recomputation, Sharding, Space


def one_change(space: Space, evaluator: Evaluator, best: Job) -> list[Candidate]:
    """The best of each other schedule, way to recompute, micro-batch beside, split and ZeRO stage; fitting or not."""
    return [
        min((evaluator.weigh(job) for job in jobs), key=lambda candidate: (not candidate.fits, candidate.seconds))
        for jobs in _groups(space, best)
        if jobs
    ]


def place_of(job: Job) -> Place:
    return Place(job.layout, job.micro_batch_size, job.expert)


def _groups(space: Space, best: Job) -> Iterator[list[Job]]:
    place = place_of(best)
    order, saving = Order(best.schedule, best.virtual_stages), Recomputation(best.recompute, best.recompute_every)
    sharding, split = Sharding(best.zero, best.zero_shard), best.sequence_parallel
    orders = [other for other in space.orders(place) if other != order]
    for name in dict.fromkeys(other.schedule for other in orders):
        yield [space.job(place, other, saving, split, sharding) for other in orders if other.schedule == name]
    savings = [other for other in space.savings if other != saving]
    for kind in dict.fromkeys(other.recompute for other in savings):
        yield [space.job(place, order, other, split, sharding) for other in savings if other.recompute == kind]
    sizes = space.micro_batch_sizes(best.layout)
    number = sizes.index(best.micro_batch_size)
    for size in [*sizes[max(0, number - 1) : number], *sizes[number + 1 : number + 2]]:
        beside = replace(best, micro_batch_size=size)
        if order in space.orders(place_of(beside)):
            yield [beside]
    yield [space.job(place, order, saving, other, sharding) for other in space.splits(best.layout) if other != split]
    for stage in ZERO_STAGES:
        others = [other for other in space.shardings(best.layout) if other.zero == stage != best.zero]
        yield [space.job(place, order, saving, split, other) for other in others]
