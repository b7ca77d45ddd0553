"""The cells of a search for weights: one small model, the same tokens, another mixture each; and the check runs.

The model has about `parameters` without embeddings, in the recipe's form and the plan's proportions of depth to width.
Batch and learning rate are those of 2401.02954 for the FLOPs of a run; the recipe's are for its own, far larger one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from megalith.arithmetic import flops_per_token, parameters
from megalith.artifacts.manifest import json_digest
from megalith.errors import RecipeError
from megalith.recipe import ModelConfig, Recipe
from megalith.study.design import (
    BATCH_AT_1,
    BATCH_OF_FLOPS,
    FEWEST_STEPS,
    RATE_AT_1,
    RATE_OF_FLOPS,
    TOKENS_PER_PARAMETER,
    Cell,
    power_of_two,
)
from megalith.study.mixture.weights import UNIT, Drawn, Floats, Space, draw_mixtures
from megalith.study.shapes import counted, family, off_rule

FEWEST_MIXTURES = 8
_HIGHEST_RATE = 1e-2
_OFF = math.log(1.5)  # the nearest shape's parameters over those asked for
_AS_GIVEN = 1.01  # a little room under blend.maximum_epochs, which is compared after rounding


@dataclass(frozen=True)
class MixtureSearch:
    """Everything that is asked of a search."""

    mixtures: int = 32
    most_epochs: float = 4.0
    """Times that the target run may read a data set."""
    target: Mapping[str, float] = field(default_factory=dict)
    """Weights of the data sets' losses in the loss that is to be low; none: their mean."""
    target_tokens: int | None = None
    """Tokens of the run that the weights are for. Default: the recipe's train.tokens."""
    parameters: float = 1e6
    """Parameters of a proxy without embeddings."""
    tokens: float | None = None
    """Tokens of a proxy. Default: 20 a parameter, the head's included."""
    batch: int | None = None
    learning_rate: float | None = None
    held_out_tokens: int = 100_000
    """Held-out tokens of each data set on which losses are measured."""
    seeds: int = 2
    """Runs of each mixture that is checked."""


@dataclass(frozen=True)
class MixtureCell:
    """One run of a mixture."""

    run: Cell
    arm: str
    """drawn, or what is checked: found, natural or recipe."""
    names: tuple[str, ...]
    weights: tuple[float, ...]
    maximum_epochs: float
    held_out_tokens: int

    @property
    def name(self) -> str:
        """With a piece of the digest: a run of other weights or tokens has a directory of its own."""
        return f"{self.run.name}-{self.digest[:6]}"

    @property
    def flops(self) -> float:
        return self.run.flops

    @property
    def overrides(self) -> list[str]:
        """The changes to the search's recipe that make this run."""
        datasets = {name: {"weight": weight} for name, weight in zip(self.names, self.weights, strict=True)}
        blend = {"datasets": datasets, "maximum_epochs": self.maximum_epochs}
        return [*self.run.overrides, f"blend={json.dumps(blend)}"]

    @property
    def digest(self) -> str:
        """A digest of all that makes this run, or its losses, other ones."""
        return json_digest([self.overrides, self.run.model.model_dump(mode="json"), self.held_out_tokens])[:16]


@dataclass(frozen=True)
class MixtureDesign:
    """The proxy runs, and the run that all others are made like."""

    asked: MixtureSearch
    space: Space
    drawn: Drawn
    cells: tuple[MixtureCell, ...]

    @property
    def run(self) -> Cell:
        return self.cells[0].run

    @property
    def target(self) -> Floats:
        """Weights of the data sets' losses, which add up to 1."""
        wanted = np.array([self.asked.target.get(name, 0.0) for name in self.space.names])
        if not self.asked.target:
            wanted = np.ones(len(self.space.names))
        made: Floats = wanted / wanted.sum()
        return made

    def check_cells(self, arms: Mapping[str, Floats]) -> list[MixtureCell]:
        """Runs of some mixtures with seeds that no proxy had."""
        return [
            self._cell(f"check-{arm}-seed{number}", "check", arm, weights, self.run.seed + number)
            for number in range(1, self.asked.seeds + 1)
            for arm, weights in arms.items()
        ]

    def _cell(self, name: str, role: Any, arm: str, weights: Floats, seed: int) -> MixtureCell:
        return cell_of(self.run, name, role, arm, weights, seed, self.space, self.asked.held_out_tokens)

    def facts(self) -> dict[str, Any]:
        """The figures for `--json`."""
        run = self.run
        return {
            "datasets": list(self.space.names),
            "natural": self.space.natural.tolist(),
            "caps": [cap * UNIT for cap in self.space.caps],
            "mixtures": len(self.cells),
            "redrawn": self.drawn.redrawn,
            "clipped": self.drawn.clipped,
            "target": dict(zip(self.space.names, self.target.tolist(), strict=True)),
            "target_tokens": self.space.target_tokens,
            "most_epochs": self.space.most_epochs,
            "held_out_tokens": self.asked.held_out_tokens,
            "seeds": self.asked.seeds,
            "flops": sum(cell.flops for cell in self.cells),
            "run": {
                "flops": run.flops, "parameters_with_head": run.counted, "layers": run.model.layers,
                "non_embedding": parameters(run.model).non_embedding, "hidden": run.model.hidden,
                "tokens": run.tokens, "steps": run.steps, "batch": run.batch, "learning_rate": run.learning_rate,
                "seed": run.seed,
            },
            "cells": [{"cell": cell.name, "weights": list(cell.weights)} for cell in self.cells],
        }  # fmt: skip


def design_mixtures(recipe: Recipe, space: Space, asked: MixtureSearch) -> MixtureDesign:
    """The proxy runs. Raises RecipeError where they would be too few, too short, or of no shape."""
    _check_asked(recipe, space, asked)
    model = _shape(recipe.model, asked.parameters)
    wanted = asked.tokens or TOKENS_PER_PARAMETER * counted(model)
    flops = flops_per_token(model) * wanted
    batch = asked.batch or power_of_two(BATCH_AT_1 * flops**BATCH_OF_FLOPS / model.sequence_length)
    step = batch * model.sequence_length
    steps = round(wanted / step)
    if steps < FEWEST_STEPS:
        raise RecipeError(
            f"{wanted:,.0f} tokens are {steps} steps of {batch} sequences of {model.sequence_length}, and "
            f"{FEWEST_STEPS} are needed.",
            where="--proxy-tokens",
            mend="Use more tokens, a smaller --batch, or a smaller model.sequence_length.",
        )
    if steps * step > space.target_tokens:
        raise RecipeError(
            f"a proxy would read {steps * step:,} tokens, and the run that the weights are for {space.target_tokens:,}"
            ": the cap on repetition would not hold for it.",
            where="--proxy-tokens",
            mend="Use fewer --proxy-tokens or --proxy-parameters, or more --target-tokens.",
        )
    rate = asked.learning_rate or min(_HIGHEST_RATE, float(f"{RATE_AT_1 * flops**RATE_OF_FLOPS:.4g}"))
    run = Cell("mixture", "proxy", flops, model, steps * step, batch, rate, recipe.seed)
    drawn = draw_mixtures(space, asked.mixtures, recipe.seed)
    cells = tuple(
        cell_of(run, f"mixture-{number:03d}", "proxy", "drawn", weights, recipe.seed, space, asked.held_out_tokens)
        for number, weights in enumerate(drawn.weights)
    )
    return MixtureDesign(asked, space, drawn, cells)


def cell_of(
    run: Cell, name: str, role: Any, arm: str, weights: Floats, seed: int, space: Space, held_out_tokens: int
) -> MixtureCell:
    """A run like another one, of a mixture. What it reads most often sets blend.maximum_epochs, if over the cap."""
    epochs = float(max(np.max(weights * run.tokens / np.array(space.sizes)), space.most_epochs))
    return MixtureCell(
        Cell(name, role, run.budget, run.model, run.tokens, run.batch, run.learning_rate, seed),
        arm, space.names, tuple(float(f"{weight:.4f}") for weight in weights), float(f"{_AS_GIVEN * epochs:.4g}"),
        held_out_tokens,
    )  # fmt: skip


def proxy_recipe(recipe: Recipe, model: ModelConfig | None = None) -> Recipe:
    """The recipe of all cells: its data in natural shares, and nothing of the target's own layout, budget or schedule.

    Without a `model` it is for the tokens alone.
    """
    values = recipe.model_dump(mode="json", by_alias=True)
    values["blend"] = {"datasets": {name: {"epochs": 1.0} for name in recipe.curate.datasets}, "maximum_epochs": 1e9}
    for section in ("budget", "parallel", "cluster"):
        values.pop(section, None)
    for setting in (
        "tokens", "micro_batch_size", "batch_ramp", "warmup_tokens", "decay_tokens", "cooldown_tokens",
        "minimum_learning_rate", "milestones", "mirror", "elastic", "trace_steps",
    ):  # fmt: skip
        values["train"].pop(setting, None)
    values["evaluate"].pop("every", None)
    values["train"]["tokens"] = 1
    if model is not None:
        values["model"] = model.model_dump(mode="json", by_alias=True)
    return Recipe.model_validate(values)


def parse_target(text: str | None, names: Sequence[str]) -> dict[str, float]:
    """The data sets whose loss counts, from `NAME` or `NAME=2,NAME=1`. Raises RecipeError for one that is not there."""
    if not text:
        return {}
    found = {}
    for part in [text] if text in names else text.split(","):
        name, given, said = part.strip().rpartition("=")
        name, said = (name, said) if given and part.strip() not in names else (part.strip(), "1")
        try:
            weight = float(said)
        except ValueError:
            weight = math.nan
        if name not in names or not 0 < weight < math.inf:
            raise RecipeError(
                f"{part.strip()!r} is not a data set with a weight above 0.",
                where="--target",
                mend=f"Use NAME or NAME=2,NAME=1, with names of {', '.join(names)}.",
            )
        found[name] = weight
    return found


def _check_asked(recipe: Recipe, space: Space, asked: MixtureSearch) -> None:
    if asked.mixtures < FEWEST_MIXTURES:
        raise RecipeError(
            f"{asked.mixtures} mixtures are too few to tell whether their losses can be foretold.",
            where="--mixtures",
            mend=f"Use {FEWEST_MIXTURES} or more; 32 is the default.",
        )
    if asked.seeds < 2:
        raise RecipeError("the noise of runs is known from two seeds or more.", where="--seeds", mend="Use 2 or more.")
    if recipe.train.precision == "auto":
        raise RecipeError(
            "the runs of a search are to be of one precision, and it is left open.",
            where="train.precision",
            mend="Set it to fp32, or to bf16 on a processor that multiplies it.",
        )
    if asked.held_out_tokens < 2 * recipe.model.sequence_length:
        raise RecipeError(
            f"{asked.held_out_tokens} held-out tokens are less than two sequences of {recipe.model.sequence_length}.",
            where="--held-out-tokens",
            mend="Use more; 100,000 is the default.",
        )


def _shape(base: ModelConfig, wanted: float) -> ModelConfig:
    """The shape of about so many parameters without embeddings, in the plan's proportions."""
    known = list(family(base))
    if not known:
        raise RecipeError("no shape fits the recipe's other settings of the model.", where="model")

    def off(model: ModelConfig) -> float:
        return abs(math.log(parameters(model).non_embedding / wanted))

    nearest = min(known, key=lambda model: off(model) + off_rule(model))
    if off(nearest) > _OFF:
        raise RecipeError(
            f"no shape has about {wanted:,.0f} parameters without embeddings; the nearest has "
            f"{parameters(nearest).non_embedding:,}.",
            where="--proxy-parameters",
            mend="Use that many.",
        )
    return nearest
