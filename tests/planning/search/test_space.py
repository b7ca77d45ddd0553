"""The search space: all layouts that training can run, and no others."""

import itertools
from typing import Any

import pytest

from megalith.errors import RecipeError
from megalith.planning.search.space import Question, Space, divisors
from megalith.recipe import load_recipe
from megalith.topology import Layout, check_layout, describe


def question(name: str = "gpt2-2.5b", nodes: int = 2, batch: int = 48, **fixed: Any) -> Question:
    recipe = load_recipe(name, ["cluster.name=dgx-a100", f"cluster.nodes={nodes}", "parallel={}"])[0]
    return Question(recipe.model, describe(recipe.cluster), batch, fixed=fixed)


@pytest.mark.parametrize(("name", "nodes", "batch"), [("gpt2-2.5b", 2, 36), ("gpt2-8.3b", 3, 96), ("llama-8b", 1, 32)])
def test_layouts_are_those_that_check_layout_takes(name: str, nodes: int, batch: int) -> None:
    """Against trying every triple of sizes."""
    asked = question(name, nodes, batch)
    recipe = load_recipe(name, ["parallel={}"])[0]
    world = asked.cluster.accelerators
    taken = set()
    for tensor, pipeline, data in itertools.product(range(1, world + 1), repeat=3):
        layout = Layout(tensor, pipeline, data)
        if layout.world != world:
            continue
        train = recipe.train.model_copy(update={"global_batch_size": batch, "micro_batch_size": 1})
        try:
            check_layout(asked.cluster, layout, asked.model, recipe.parallel, train)
        except RecipeError:
            continue
        taken.add(layout)
    assert set(Space(asked).layouts()) == taken


def test_every_candidate_is_one_that_check_layout_takes() -> None:
    asked = question()
    recipe = load_recipe("gpt2-2.5b", ["parallel={}"])[0]
    space, count = Space(asked), 0
    for place in space.places():
        train = recipe.train.model_copy(update={"global_batch_size": 48, "micro_batch_size": place.micro_batch_size})
        for order in space.orders(place):
            for split in space.splits(place.layout):
                job = space.job(place, order, space.savings[0], split, space.shardings(place.layout)[0])
                check_layout(asked.cluster, place.layout, asked.model, job.parallel, train)
                assert job.micro_batches * job.micro_batch_size * place.layout.data == 48
                count += 1
    assert count > 100


def test_of_numbers_of_stages_whose_largest_is_alike_the_fewest_are_tried() -> None:
    """54 layers on 2 ranks: 27 stages a rank hold one layer each, 14 to 26 hold two at most."""
    space = Space(question(batch=96))
    place = next(place for place in space.places() if place.layout.pipeline == 2 and place.layout.data == 8)
    virtual = [order.virtual_stages for order in space.orders(place) if order.schedule == "interleaved-1f1b"]
    assert virtual[-2:] == [14, 27]
    largest = [-(-54 // (2 * stages)) for stages in virtual]
    assert largest == sorted(set(largest), reverse=True)
    assert set(largest) == {-(-54 // (2 * stages)) for stages in range(2, 28)}


def test_two_stages_more_than_layers_are_tried() -> None:
    """54 layers on 8 ranks: seven stages a rank hold one layer each, and the first and the last none."""
    space = Space(question(batch=96))
    place = next(place for place in space.places() if place.layout.pipeline == 8)
    assert space.orders(place)[-1] == ("interleaved-1f1b", 7)


@pytest.mark.parametrize(
    ("fixed", "taken"),
    [
        ({"tensor": 4}, {(4, pipeline, 4 // pipeline) for pipeline in (1, 2, 4)}),
        ({"tensor": 2, "pipeline": 4}, {(2, 4, 2)}),
        ({"data": 4, "pipeline": 2}, {(2, 2, 4)}),
        ({"data": 16}, {(1, 1, 16)}),
        ({"tensor": 3}, set()),
    ],
)
def test_what_is_fixed_has_one_choice(fixed: dict[str, int], taken: set[tuple[int, int, int]]) -> None:
    layouts = Space(question(**fixed)).layouts()
    assert {(layout.tensor, layout.pipeline, layout.data) for layout in layouts} == taken


def test_settings_that_are_fixed_are_kept_in_every_candidate() -> None:
    fixed = {"schedule": "interleaved-1f1b", "recompute": "full", "recompute_every": 1, "zero": 2,
             "micro_batch_size": 2, "sequence_parallel": True}  # fmt: skip
    space = Space(question(**fixed))
    places = [place for place in space.places() if space.size(place)]
    assert places
    for place in places:
        assert {order.schedule for order in space.orders(place)} <= {"interleaved-1f1b", "1f1b"}
        assert place.layout.pipeline == 1 or all(order.virtual_stages > 1 for order in space.orders(place))
        assert {sharding.zero for sharding in space.shardings(place.layout)} == {2}
        assert place.micro_batch_size == 2
    assert [(saving.recompute, saving.every) for saving in space.savings] == [("full", 1)]


def test_a_number_of_layers_between_recomputed_ones_is_kept_whatever_it_is() -> None:
    space = Space(question(recompute_every=5))
    assert [tuple(saving) for saving in space.savings] == [("none", 5), ("selective", 5), ("full", 5)]


@pytest.mark.parametrize("fixed", [{"zero_shard": 4}, {"zero_shard": 4, "zero": 2}])
def test_ranks_to_shard_over_divide_the_data_axis_of_every_candidate(fixed: dict[str, int]) -> None:
    """Training refuses others, a data axis of one rank too."""
    space = Space(question(**fixed))
    places = [place for place in space.places() if space.size(place)]
    assert {place.layout.data for place in places} == {4, 8, 16}
    for place in places:
        assert {sharding.shard for sharding in space.shardings(place.layout)} == {4}


def test_without_a_data_axis_there_is_nothing_to_shard() -> None:
    alone = Layout(4, 4, 1)
    assert Space(question()).shardings(alone) == [(0, None)]
    assert Space(question(zero=2)).shardings(alone) == [(2, None)]


def test_compiled_layers_run_no_zero_bubble_schedule() -> None:
    asked = question()
    compiled = Space(Question(asked.model, asked.cluster, 48, compiled=True))
    assert all(order.schedule != "zb-h1" for place in compiled.places() for order in compiled.orders(place))
    assert any(order.schedule == "zb-h1" for place in Space(asked).places() for order in Space(asked).orders(place))


@pytest.mark.parametrize("number", [1, 2, 12, 36, 97, 2240])
def test_divisors(number: int) -> None:
    assert divisors(number) == [size for size in range(1, number + 1) if number % size == 0]
