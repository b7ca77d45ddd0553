"""The model's shape for a budget: one dial, the depth, makes a family of shapes, and a scaling law picks from it.

Width grows as depth^1.5, so that the aspect ratio is 32 at 4 layers and about 150 at 90, as in published models (GPT-2,
GPT-3, Chinchilla, MT-NLG). Each shape is given the tokens that the budget pays for by the exact FLOPs of the model, not
by 6·N·D: in a small model the logits and the attention cost as much as the rest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import ValidationError

from megalith.arithmetic import flops_per_token, parameters
from megalith.batches import tokens_for, tokens_per_step
from megalith.errors import RecipeError
from megalith.laws import compute_optimal, law_named
from megalith.recipe import ModelConfig, Recipe

DEEPEST = 160
FEWEST_STEPS = 200  # of the optimizer: a law counts tokens alone, and a model that takes few steps has learned nothing


@dataclass(frozen=True)
class Shape:
    """One model of the family, on the tokens that the budget pays for."""

    model: ModelConfig
    parameters: int
    non_embedding_parameters: int
    tokens: int
    predicted_loss: float | None
    """By the law, in nats per token of the law's own tokenizer."""
    merit: float
    """Minimised by the choice: the predicted loss, or how far the model is from the law's optimum."""


def choose_shape(recipe: Recipe) -> tuple[Shape, list[Shape]]:
    """The best shape for `recipe.budget.flops`, and the family's shapes around it in order of depth.

    It takes at least FEWEST_STEPS, if any shape of the family does.
    With `train.tokens` given as well, the shape is the one whose FLOPs come nearest to the budget. Raises RecipeError
    where no shape of the family will do.
    """
    family = [shape for model in _family(recipe.model) if (shape := spend(recipe, model)) is not None]
    if not family:
        raise RecipeError(
            f"a budget of {recipe.budget.flops:.3g} FLOPs does not pay for a single step of the smallest model.",
            mend="Raise the budget, or lower train.global_batch_size or model.sequence_length.",
        )
    enough = [shape for shape in family if shape.tokens >= FEWEST_STEPS * tokens_per_step(recipe)] or family[:1]
    best = family.index(min(enough if recipe.train.tokens is None else family, key=lambda shape: shape.merit))
    return family[best], family[max(0, best - 3) : best + 4]


def shape_of(recipe: Recipe, model: ModelConfig, tokens: int) -> Shape:
    """A given model on a given number of tokens, with the loss that the recipe's law predicts."""
    count = parameters(model)
    shape = Shape(model, count.total, count.non_embedding, tokens, predicted_loss=None, merit=0.0)
    loss = law_named(recipe.budget.law).loss(counted_parameters(recipe, shape), tokens)
    return replace(shape, predicted_loss=loss)


def counted_parameters(recipe: Recipe, shape: Shape) -> int:
    """The parameters that the recipe says a law's N stands for."""
    return shape.parameters if recipe.budget.parameters_counted == "total" else shape.non_embedding_parameters


def width(depth: int) -> float:
    """The hidden size of a model of `depth` layers, before it is rounded."""
    return 16 * math.pow(depth, 1.5)


def _family(model: ModelConfig) -> Iterator[ModelConfig]:
    """The shapes that fit the recipe's other settings, by depth."""
    for depth in range(1, DEEPEST + 1):
        wanted = width(depth)
        step = 32 if wanted < 128 else 64 if wanted < 4096 else 128  # whole tiles of a matrix product
        hidden = max(step, round(wanted / step) * step)
        head_dim = model.head_size or (32 if hidden < 256 else 64 if hidden < 4096 else 128)
        shape = {"num_layers": depth, "hidden_size": hidden, "num_heads": max(1, hidden // head_dim)}
        try:
            yield ModelConfig.model_validate({**model.model_dump(), **shape})
        except ValidationError:  # the heads cannot share the num_kv_heads that the recipe gives
            continue


def spend(recipe: Recipe, model: ModelConfig) -> Shape | None:
    """The model with the whole steps that the recipe's budget in FLOPs pays for; None where it pays for none."""
    flops = recipe.budget.flops
    assert flops is not None  # the recipe's own check
    tokens = recipe.train.tokens or tokens_for(recipe, flops / flops_per_token(model))
    if not tokens:
        return None
    shape = shape_of(recipe, model, tokens)
    return replace(shape, merit=_merit(recipe, shape, flops))


def _merit(recipe: Recipe, shape: Shape, flops: float) -> float:
    if recipe.train.tokens is not None:
        return abs(math.log(flops_per_token(shape.model) * shape.tokens / flops))
    if shape.predicted_loss is not None:
        return shape.predicted_loss
    return abs(math.log(counted_parameters(recipe, shape) / compute_optimal(flops, recipe.budget.law).parameters))
