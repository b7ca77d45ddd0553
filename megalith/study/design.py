"""The cells of a scaling study: sizes × tokens at several IsoFLOP budgets, with seeds and corner cells.

Sizes stand on one grid, `ratio` apart, from which each budget takes those around its likely optimum (20 tokens a
parameter), so that budgets share sizes and approach 1 has curves. Depth and width go together as in the plan's shapes.
Every run is one epoch with a cosine matched to its length. The learning rate falls with FLOPs as C^−0.125 and grows
with √batch, and the batch as C^0.327 (DeepSeek, 2401.02954); both are the recipe's at the middle budget. The rate
rises over one token a parameter (2406.19146), at most a fifth of the run: a rise of one length is too long for small
models, and a small share of a short run so steep that the largest models of a budget lose up to a fifth. Corner cells
repeat the middle size of the smallest and the largest budget at half and twice the rate: where one is better, the rule
is not at its optimum there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from megalith.arithmetic import flops_per_token, parameters
from megalith.artifacts.manifest import json_digest
from megalith.errors import RecipeError
from megalith.recipe import ModelConfig, Recipe
from megalith.study.shapes import RATIO, Shapes, counted

Role = Literal["grid", "seed", "corner", "proxy", "check"]
TOKENS_PER_PARAMETER = 20.0  # Chinchilla's, about which a budget's sizes are centred
CORNER_FACTOR = 2.0  # of the learning rate
MOST_WARMUP = 0.2  # of a run
FEWEST_STEPS = 50
RATE_AT_1, RATE_OF_FLOPS = 0.3118, -0.125  # 2401.02954, equation 2: 0.3118 · C^−0.1250
BATCH_AT_1, BATCH_OF_FLOPS = 0.2920, 0.3271  # and 0.2920 · C^0.3271 tokens
_MICRO_BATCH_TOKENS = 8192  # of one forward pass, at most
_SPLIT = (1.0, 2.7, 7.3, 20.0)  # budgets relative to the smallest, where only their sum is given


@dataclass(frozen=True)
class Cell:
    """One run."""

    name: str
    role: Role
    budget: float
    """FLOPs aimed at."""
    model: ModelConfig
    tokens: int
    batch: int
    """Sequences."""
    learning_rate: float
    seed: int

    @property
    def flops(self) -> float:
        """Exact, attention and logits included."""
        return flops_per_token(self.model) * self.tokens

    @property
    def steps(self) -> int:
        return self.tokens // (self.batch * self.model.sequence_length)

    @property
    def counted(self) -> int:
        """Parameters with the head and without the input table."""
        return counted(self.model)

    @property
    def warmup_tokens(self) -> int:
        return min(self.counted, int(MOST_WARMUP * self.tokens))

    @property
    def overrides(self) -> list[str]:
        """The changes to the study's recipe that make this run."""
        model = self.model
        return [
            f"model.num_layers={model.num_layers}", f"model.hidden_size={model.hidden_size}",
            f"model.num_heads={model.num_heads}", f"model.ffn_hidden_size={model.ffn_hidden_size or 'null'}",
            "parallel.tensor=1", "parallel.pipeline=1", "parallel.data=1", "budget.flops=null", "budget.hours=null",
            f"train.tokens={self.tokens}", f"train.global_batch_size={self.batch}",
            f"train.micro_batch_size={micro_batch_of(self.batch, model.sequence_length)}",
            f"train.learning_rate={self.learning_rate:.6g}", "train.minimum_learning_rate=null",
            "train.schedule=cosine", "train.decay_tokens=null", f"train.warmup_tokens={self.warmup_tokens}",
            f"seed={self.seed}",
        ]  # fmt: skip

    @property
    def digest(self) -> str:
        """A digest of all that makes this run another one."""
        return json_digest([self.overrides, self.model.model_dump(mode="json")])[:16]


@dataclass(frozen=True)
class Design:
    """All cells, the cheapest first."""

    cells: tuple[Cell, ...]
    budgets: tuple[float, ...]

    @property
    def flops(self) -> float:
        return sum(cell.flops for cell in self.cells)

    @property
    def most_tokens(self) -> int:
        return max(cell.tokens for cell in self.cells)

    def facts(self) -> dict[str, Any]:
        """The figures for `--json`."""
        return {
            "budgets": list(self.budgets),
            "flops": self.flops,
            "most_tokens": self.most_tokens,
            "cells": [
                {
                    "cell": cell.name, "role": cell.role, "budget": cell.budget, "flops": cell.flops,
                    "parameters_with_head": cell.counted, "layers": cell.model.layers, "hidden": cell.model.hidden,
                    "tokens": cell.tokens, "steps": cell.steps, "batch": cell.batch,
                    "learning_rate": cell.learning_rate, "seed": cell.seed,
                }
                for cell in self.cells
            ],
        }  # fmt: skip


def design(
    recipe: Recipe,
    *,
    budgets: Sequence[float] = (),
    flops: float | None = None,
    sizes: int = 6,
    ratio: float = RATIO,
    seeds: int = 3,
) -> Design:
    """The cells for the `budgets`, or for four that span 20 times and sum up to about `flops` in all.

    Raises RecipeError where budgets are too few, a cell would have too few steps to learn anything, or the precision is
    left open.
    """
    if recipe.train.precision == "auto":
        raise RecipeError(
            "the runs of a study are to be of one precision, and it is left open.",
            where="train.precision",
            mend="Set it to fp32, or to bf16 on a processor that multiplies it.",
        )
    wanted = tuple(sorted(budgets)) if budgets else _split(flops, sizes, seeds)
    if len(wanted) < 2 or min(wanted) <= 0:
        raise RecipeError(
            f"a study needs two budgets of positive FLOPs or more, and has {len(wanted)}.",
            where="--budgets",
            mend="Use --budgets 3e12,8e12,2.2e13,6e13, or --flops for all of it.",
        )
    shapes = Shapes(recipe.model, ratio)
    middle = _middle(wanted)
    grid = []
    for number, budget in enumerate(wanted):
        first = shapes.nearest_place(_centre(shapes, budget)) - (sizes - 1) // 2
        for place in range(first, first + sizes):
            model = shapes.at(place)
            grid.append(_cell(recipe, f"b{number}-n{place - shapes.lowest}", budget, middle, model))
    return Design(tuple(sorted(_with_checks(grid, wanted, seeds), key=lambda cell: cell.flops)), wanted)


def further(
    recipe: Recipe, budgets: Sequence[float], flops: float, parameters: float, *, name: str, seeds: int = 1
) -> Design:
    """A model of about so many parameters at FLOPs that may lie beyond the budgets, by the rules that their cells obey.

    `parameters` counts the head and not the input table. The cells, one for each seed, are called after `name`.
    """
    cell = _cell(recipe, name, flops, _middle(budgets), Shapes(recipe.model).nearest(parameters))
    more = (
        replace(cell, name=f"{name}-seed{number}", role="seed", seed=cell.seed + number) for number in range(1, seeds)
    )
    return Design((cell, *more), (flops,))


def _middle(budgets: Sequence[float]) -> float:
    """The geometric mean: the recipe's batch and learning rate are those of this budget."""
    return math.exp(sum(map(math.log, budgets)) / len(budgets))


def _split(flops: float | None, sizes: int, seeds: int) -> tuple[float, ...]:
    """Four budgets whose cells together spend about `flops`."""
    if flops is None or not 0 < flops < math.inf:
        raise RecipeError(
            "neither budgets nor FLOPs say how much to spend.", where="--budgets", mend="Use --budgets or --flops."
        )
    runs = sizes + max(0, seeds - 1)
    corners = 2 * (_SPLIT[0] + _SPLIT[-1])
    smallest = flops / (runs * sum(_SPLIT) + corners)
    return tuple(part * smallest for part in _SPLIT)


def _with_checks(grid: Sequence[Cell], budgets: Sequence[float], seeds: int) -> Iterator[Cell]:
    """The cells of the grid; the middle size of each budget again by seeds, of two budgets by learning rate too."""
    yield from grid
    for budget in budgets:
        own = [cell for cell in grid if cell.budget == budget]
        middle = own[(len(own) - 1) // 2]
        yield from _more_seeds(middle, seeds)
        if budget in (budgets[0], budgets[-1]):
            for name, factor in (("low", 1 / CORNER_FACTOR), ("high", CORNER_FACTOR)):
                yield replace(
                    middle,
                    name=f"{middle.name}-{name}-rate",
                    role="corner",
                    learning_rate=middle.learning_rate * factor,
                )


def _more_seeds(cell: Cell, seeds: int) -> Iterator[Cell]:
    for more in range(1, seeds):
        yield replace(cell, name=f"{cell.name}-seed{more}", role="seed", seed=cell.seed + more)


def _cell(recipe: Recipe, name: str, budget: float, middle: float, model: ModelConfig) -> Cell:
    relative = budget / middle
    batch = power_of_two(recipe.train.global_batch_size * relative**BATCH_OF_FLOPS)
    rate = recipe.train.learning_rate * relative**RATE_OF_FLOPS * math.sqrt(batch / recipe.train.global_batch_size)
    step = batch * model.sequence_length
    steps = round(budget / flops_per_token(model) / step)
    if steps < FEWEST_STEPS:
        raise RecipeError(
            f"{budget:.3g} FLOPs give a model of {parameters(model).total:,} parameters {steps} steps of {batch} "
            f"sequences, and {FEWEST_STEPS} are needed.",
            where="--budgets",
            mend="Use larger budgets, fewer --sizes, or a smaller train.global_batch_size or model.sequence_length.",
        )
    return Cell(name, "grid", budget, model, steps * step, batch, float(f"{rate:.4g}"), recipe.seed)


def _centre(shapes: Shapes, budget: float) -> float:
    """log N at which a budget buys 20 tokens a parameter, by exact FLOPs."""

    def off(model: ModelConfig) -> float:
        wanted = math.log(budget / flops_per_token(model) / TOKENS_PER_PARAMETER)
        return abs(wanted - shapes.log_counted(model))

    return shapes.log_counted(min(shapes.known, key=off))


def power_of_two(value: float) -> int:
    return int(2 ** max(0, round(math.log2(value))))


def micro_batch_of(batch: int, sequence_length: int) -> int:
    """The largest divisor of the batch whose tokens fit into one pass."""
    most = max(1, _MICRO_BATCH_TOKENS // sequence_length)
    return max(size for size in range(1, min(batch, most) + 1) if batch % size == 0)
