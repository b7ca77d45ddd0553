"""The shape for a budget: what it spends, what it minimises, and how the family looks."""

import itertools

import pytest

from megalith.arithmetic import flops_per_token, parameters
from megalith.errors import RecipeError
from megalith.laws import compute_optimal
from megalith.planning.shapes import FEWEST_STEPS, choose_shape
from megalith.recipe import Recipe, load_recipe


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart", ["budget.flops=2e13", *overrides])[0]


def test_a_small_budget_buys_a_model_of_one_to_two_and_a_half_million() -> None:
    shape, _ = choose_shape(recipe())
    assert 1.2e6 < shape.parameters < 2.5e6
    assert shape.parameters == parameters(shape.model).total


@pytest.mark.parametrize("flops", ["2e13", "1e17", "1e21"])
def test_the_budget_is_spent_to_the_last_whole_step(flops: str) -> None:
    asked = recipe(f"budget.flops={flops}")
    shape, _ = choose_shape(asked)
    step = flops_per_token(shape.model) * asked.train.global_batch_size * asked.model.sequence_length
    spent = flops_per_token(shape.model) * shape.tokens
    assert spent <= float(flops) < spent + step


def test_the_choice_has_the_least_loss_of_its_neighbours() -> None:
    """E + A/N^α + B/D^β with the constants as printed, N without embeddings as the recipe asks."""
    shape, neighbours = choose_shape(recipe())
    losses = [1.69 + 406.4 / near.non_embedding_parameters**0.34 + 410.7 / near.tokens**0.28 for near in neighbours]
    assert neighbours[losses.index(min(losses))] is shape
    assert shape.predicted_loss == pytest.approx(min(losses))
    assert len(neighbours) >= 5


@pytest.mark.parametrize("law", ["chinchilla-1", "chinchilla-2", "chinchilla-3", "chinchilla-refit"])
def test_a_large_budget_buys_what_the_law_says(law: str) -> None:
    """At 5.76e23 FLOPs embedding and attention are little: the shape is within a step of the dial (15 %)."""
    asked = recipe(f"budget.law={law}", "budget.flops=5.76e23", "budget.parameters_counted=total",
                   "model.sequence_length=2048", "train.global_batch_size=1024")  # fmt: skip
    shape, _ = choose_shape(asked)
    assert shape.parameters == pytest.approx(compute_optimal(5.76e23, law).parameters, rel=0.15)


def test_a_larger_budget_buys_a_larger_model_of_the_same_family() -> None:
    shapes = [choose_shape(recipe(f"budget.flops={flops}"))[0].model for flops in ("1e13", "1e16", "1e19", "1e22")]
    for small, large in itertools.pairwise(shapes):
        assert large.layers > small.layers
        assert large.hidden / large.layers >= small.hidden / small.layers
    for model in shapes:
        assert model.hidden % 32 == 0
        assert model.head_dim in (32, 64, 128)


def test_heads_are_shared_as_the_recipe_asks() -> None:
    shape, neighbours = choose_shape(recipe("model.num_kv_heads=4", "budget.flops=1e17"))
    assert all(near.model.heads % 4 == 0 for near in neighbours)
    assert shape.model.kv_heads == 4


def test_given_tokens_are_kept_and_the_model_fills_the_budget() -> None:
    asked = recipe("train.tokens=4096000", "budget.flops=1e15")
    shape, neighbours = choose_shape(asked)
    assert shape.tokens == 4096000
    spent = [abs(flops_per_token(near.model) * 4096000 / 1e15 - 1) for near in neighbours]
    assert min(spent) == abs(flops_per_token(shape.model) * shape.tokens / 1e15 - 1)


def test_a_budget_for_less_than_one_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="single step"):
        choose_shape(recipe("budget.flops=1e6"))


def test_a_tiny_budget_buys_a_model_small_enough_to_take_some_steps() -> None:
    """By the law alone it would be 3 layers, which take 50 steps."""
    asked = recipe("budget.flops=1.07e12")
    shape, neighbours = choose_shape(asked)
    steps = shape.tokens // (16 * 256)
    assert steps >= FEWEST_STEPS
    larger = [other for other in neighbours if other.merit < shape.merit]
    assert larger
    assert all(other.tokens // (16 * 256) < FEWEST_STEPS for other in larger)
    assert choose_shape(recipe("budget.flops=1e10"))[0].model.num_layers == 1  # not even that takes so many
