"""The walk with its cuts, against weighing every candidate."""

import math

import pytest

from megalith.job import Job
from megalith.planning.search.branch_and_bound import fastest, least_memory
from megalith.planning.search.candidate import Evaluator
from megalith.planning.search.space import Question, Space
from megalith.recipe import load_recipe
from megalith.topology import Layout, describe
from tests.planning.search.fakes import Told

CASES = [("gpt2-8.3b", "dgx-a100", 2, 48), ("llama-8b", "dgx-h100", 1, 24), ("gpt3-175b", "selene", 8, 64),
         ("gpt2-124m", "dgx-1", 1, 16)]  # fmt: skip


def space_of(name: str, cluster: str, nodes: int, batch: int, **fixed: int) -> Space:
    recipe = load_recipe(name, [f"cluster.name={cluster}", f"cluster.nodes={nodes}", "parallel={}"])[0]
    return Space(Question(recipe.model, describe(recipe.cluster), batch, fixed=fixed))


def every(space: Space) -> list[Job]:
    return [
        space.job(place, order, saving, split, sharding)
        for place in space.places()
        for order in space.orders(place)
        for saving in space.savings
        for split in space.splits(place.layout)
        for sharding in space.shardings(place.layout)
    ]


def by_layout(space: Space, evaluator: Evaluator) -> dict[Layout, float]:
    """The shortest step of each layout of the axes, by trying all."""
    best: dict[Layout, float] = {}
    for job in every(space):
        if evaluator.fits(job):
            best[job.layout] = min(evaluator.step(job).seconds, best.get(job.layout, math.inf))
    return best


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_cuts_lose_nothing(case: tuple[str, str, int, int]) -> None:
    space, evaluator = space_of(*case), Told()
    searched = fastest(space, evaluator, kept=5)
    expected = sorted(by_layout(space, Told()).values())[:5]
    assert [candidate.seconds for candidate in searched.best] == pytest.approx(expected)
    assert all(candidate.fits for candidate in searched.best)
    jobs = every(space)
    assert searched.considered == len(jobs)
    assert evaluator.timed < len(jobs) / 2  # or they would cut nothing
    assert searched.too_large <= sum(not Told().fits(job) for job in jobs)


def test_with_a_deadline_nothing_slower_is_kept() -> None:
    space = space_of(*CASES[0])
    seconds = [candidate.seconds for candidate in fastest(space, Told()).best]
    assert [one.seconds for one in fastest(space, Told(), most_seconds=seconds[2]).best] == seconds[:2]
    assert fastest(space, Told(), most_seconds=seconds[0] / 2).best == []


def test_the_leanest_is_the_leanest_of_all() -> None:
    space = space_of("gpt2-8.3b", "dgx-a100", 2, 48)
    found = least_memory(space, Told()).best[0]
    least = min(Told().memory(job).worst.device_bytes for job in every(space))
    assert found.memory_bytes == pytest.approx(least, rel=0.01)
    # of what holds as little, the fastest
    alike = [job for job in every(space) if Told().memory(job).worst.device_bytes <= least * 1.01
             and job.layout == found.job.layout]  # fmt: skip
    assert found.seconds == pytest.approx(min(Told().step(job).seconds for job in alike))


def test_a_micro_batch_that_few_layouts_take_leaves_out_the_others() -> None:
    space = space_of("gpt2-8.3b", "dgx-a100", 2, 48, micro_batch_size=16)
    assert {layout.data for layout in space.layouts()} == {1, 2, 4, 8, 16}
    found = least_memory(space, Told(), kept=100).best
    assert {one.job.layout.data for one in found} == {1}  # 24, 12, 6 and 3 sequences are no sixteens
    assert {one.job.micro_batch_size for one in found} == {16}


def test_a_deadline_is_met_with_as_little_more_memory_as_it_takes() -> None:
    space = space_of("gpt2-8.3b", "dgx-a100", 2, 48)
    free, quickest = least_memory(space, Told()).best[0], fastest(space, Told()).best[0]
    most = (free.seconds * quickest.seconds) ** 0.5
    found = least_memory(space, Told(), most_seconds=most).best[0]
    at_their_smallest = [space.micro_batch_sizes(layout)[0] for layout in space.layouts()]
    assert set(at_their_smallest) == {1}
    in_time = [job for job in every(space) if job.micro_batch_size == 1 and Told().step(job).seconds <= most]
    least = min(Told().memory(job).worst.device_bytes for job in in_time)
    assert free.memory_bytes < least
    assert found.memory_bytes == pytest.approx(least, rel=0.01)


def test_tensor_groups_stay_inside_a_node_because_it_costs_to_leave() -> None:
    """Nothing in the space says so: with links that are as fast outside, they do not."""
    space = space_of("gpt3-175b", "selene", 16, 128)
    assert fastest(space, Told()).best[0].job.layout.tensor <= 8
    assert any(layout.tensor > 8 for layout in space.layouts())
