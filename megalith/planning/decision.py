"""A plan's decisions: the shape and the tokens that a budget buys, and the layout that trains it."""

from dataclasses import dataclass, field
from typing import Any

from megalith.arithmetic import step_flops
from megalith.errors import RecipeError
from megalith.planning.budget import Machines, in_flops, with_flops
from megalith.planning.measuring.layout_trials import Trial
from megalith.planning.shapes import Shape, choose_shape, shape_of, spend
from megalith.recipe import ModelConfig, Recipe


@dataclass(frozen=True)
class Sizes:
    """The model and its tokens."""

    recipe: Recipe
    """With its budget in FLOPs; sized."""
    shape: Shape
    neighbours: list[Shape]
    """Shapes around it, itself among them."""


@dataclass(frozen=True)
class Decision:
    """Sizes, the best layout for them, and where both were found."""

    sizes: Sizes
    best: Trial
    rows: list[dict[str, Any]]
    """Every layout that was weighed, the best first, as the facts have it."""
    considered: int
    search_seconds: float
    machine: dict[str, Any]
    """As the facts have it."""
    warnings: list[str] = field(default_factory=list)


def size(recipe: Recipe, here: Machines | None) -> Sizes:
    """The shape and the tokens that the recipe gives, or that its budget buys.

    `here` says how fast its machines are; without it, those of a cluster are predicted. Raises RecipeError where the
    budget does not pay for a step.
    """
    model, tokens = recipe.model, recipe.train.tokens
    if model.is_sized and tokens is not None:
        shape = shape_of(recipe, model, tokens)
        return Sizes(recipe, shape, [shape])
    spent = in_flops(recipe, here)
    if not model.is_sized:
        shape, neighbours = choose_shape(spent)
        return Sizes(spent.model_copy(update={"model": shape.model}), shape, neighbours)
    shape = _paid_for(spent, model)
    return Sizes(spent, shape, [shape])


def spend_hours(sizes: Sizes, hours: float, step_seconds: float) -> Sizes:
    """The same, once the best layout's step is known: the hours buy the FLOPs of so many such steps."""
    recipe, shape = sizes.recipe, sizes.shape
    steps = hours * 3600 / step_seconds
    spent = with_flops(recipe, steps * step_flops(shape.model, recipe.train.global_batch_size))
    if recipe.train.tokens is not None:
        return Sizes(spent, shape, sizes.neighbours)
    chosen = _paid_for(spent, shape.model)
    around = [chosen if each is shape else spend(spent, each.model) for each in sizes.neighbours]
    return Sizes(spent, chosen, [each for each in around if each is not None])


def _paid_for(recipe: Recipe, model: ModelConfig) -> Shape:
    """The model on the tokens that the recipe's budget pays for. Raises RecipeError where that is less than a step."""
    shape = spend(recipe, model)
    if shape is None:
        raise RecipeError(
            f"a budget of {recipe.budget.flops:.3g} FLOPs does not pay for a single step of this model, which takes "
            f"{step_flops(model, recipe.train.global_batch_size):.3g}.",
            mend="Raise the budget, or lower train.global_batch_size or model.sequence_length.",
        )
    return shape
