"""Weights of data sets within a cap on repetition: natural ones, drawn ones, and those that many draws agree on.

Weights are whole numbers of `UNIT`, at least one for each data set (a recipe's weights are above 0) and at most what
reads a data set `most_epochs` times in the target run. They are drawn from a Dirichlet distribution about the natural
weights, as in RegMix: its concentrations are strength · natural^½ (normalised), the strength log-uniform over
`STRENGTHS`, so that some mixtures are nearly one data set alone and others lie close to the middle.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megalith.errors import RecipeError

UNIT = 1e-4
UNITS = round(1 / UNIT)
STRENGTHS = (0.5, 20.0)  # sums of the concentrations
_TEMPERATURE = 0.5  # RegMix's: small data sets are tried more often than their size would have it
_TRIES = 200  # of a mixture, before it is clipped
_APART = 0.02  # two mixtures whose weights differ by less in all are the same
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """The data sets and the most that each may weigh."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Training tokens."""
    target_tokens: int
    most_epochs: float
    caps: tuple[int, ...]
    """In units."""

    @property
    def natural(self) -> Floats:
        """Weights in proportion to the tokens."""
        return rounded(np.array(self.sizes) / sum(self.sizes), self.caps)

    def epochs(self, weights: Floats) -> Floats:
        """How often the target run reads each data set."""
        found: Floats = weights * self.target_tokens / np.array(self.sizes)
        return found


@dataclass(frozen=True)
class Drawn:
    """Mixtures for proxy runs."""

    weights: Floats
    """(mixtures, data sets)"""
    redrawn: int
    """Draws set aside, since they were over the cap."""
    clipped: int
    """Mixtures that no draw met the cap for: what was over it went to the other data sets."""


def space_of(sizes: Mapping[str, int], target_tokens: int, most_epochs: float) -> Space:
    """The weights that a run of `target_tokens` may have. Raises RecipeError where none can meet the cap."""
    if len(sizes) < 2:
        raise RecipeError(
            f"a search weighs two data sets or more, and the recipe has {len(sizes)}.",
            where="curate.datasets",
            mend="Name the data sets there, each with its paths.",
        )
    caps = {name: min(UNITS, int(most_epochs * size / target_tokens * UNITS + 1e-9)) for name, size in sizes.items()}
    if sum(caps.values()) < UNITS:
        raise RecipeError(
            f"no weights keep to {most_epochs:g} epochs: the data sets have {sum(sizes.values()):,} tokens in all, and "
            f"the target run takes {target_tokens:,}.",
            where="--most-epochs",
            mend="Use more text, fewer --target-tokens, or more --most-epochs.",
        )
    least = min(caps, key=lambda name: caps[name])
    if caps[least] < 1:
        raise RecipeError(
            f"{least} has {sizes[least]:,} tokens, so few that the least weight, {UNIT:g}, reads it more than "
            f"{most_epochs:g} times.",
            where=f"curate.datasets.{least}",
            mend="Leave it out, or use more --most-epochs.",
        )
    return Space(tuple(sizes), tuple(sizes.values()), target_tokens, most_epochs, tuple(caps.values()))


def draw_mixtures(space: Space, count: int, seed: int) -> Drawn:
    """Mixtures that differ, by a seed; more of them begin with the same ones."""
    made: list[Floats] = []
    redrawn = clips = 0
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        found = None
        weights = np.empty(0)
        for _ in range(_TRIES):
            weights = _dirichlet(space, generator, 1)[0]
            if np.any(weights * UNITS > np.array(space.caps)):
                redrawn += 1
                continue
            one = rounded(weights, space.caps)
            if all(np.abs(one - other).sum() >= _APART for other in made):
                found = one
                break
        if found is None:
            clips += bool(np.any(weights * UNITS > np.array(space.caps)))
            found = rounded(clipped(weights, np.array(space.caps) * UNIT), space.caps)
        made.append(found)
    return Drawn(np.array(made), redrawn, clips)


def many_mixtures(space: Space, count: int, seed: int) -> Floats:
    """Mixtures within the cap for a regression to judge, at most `count`; where few draws meet it, clipped ones too."""
    drawn = _dirichlet(space, np.random.default_rng([seed, 2**32]), count)
    caps = np.array(space.caps) * UNIT
    within = drawn[np.all(drawn <= caps, axis=1)]
    if len(within) >= count // 100:
        return within
    return np.concatenate([within, [clipped(one, caps) for one in drawn[: count // 20]]])


def clipped(weights: Floats, caps: Floats) -> Floats:
    """The weights with what is over a cap given to those below theirs, in proportion."""
    made: Floats = np.array(weights, dtype=float)
    for _ in range(len(made)):
        over = made >= caps
        made = np.minimum(made, caps)
        short = 1 - made.sum()
        if short <= 1e-12:
            break
        pull = np.where(over, 0.0, np.maximum(made, 1e-9))
        made += short * pull / pull.sum()
    found: Floats = np.minimum(made, caps)
    return found


def rounded(weights: Floats, caps: tuple[int, ...]) -> Floats:
    """The weights in whole units that add up to 1, each at least one unit and at most its cap."""
    wanted = clipped(weights, np.array(caps) * UNIT) * UNITS
    units = np.clip(np.floor(wanted + 1e-9).astype(int), 1, caps)
    while (short := UNITS - int(units.sum())) != 0:
        step = 1 if short > 0 else -1
        room = np.array(caps) - units if step > 0 else units - 1
        order = np.argsort(-step * np.where(room > 0, wanted - units, -step * np.inf), kind="stable")
        for place in order[: min(abs(short), int((room > 0).sum()))]:
            units[place] += step
    found: Floats = np.round(units * UNIT, 4)
    return found


def _dirichlet(space: Space, generator: np.random.Generator, count: int) -> Floats:
    """Mixtures (count, data sets) by gamma draws; those whose every draw is too small for a float are left out."""
    prior = (np.array(space.sizes) / sum(space.sizes)) ** _TEMPERATURE
    low, high = np.log(STRENGTHS)
    while True:
        strengths = np.exp(generator.uniform(low, high, count))
        gammas = generator.standard_gamma(strengths[:, None] * prior / prior.sum())
        gammas = gammas[gammas.sum(axis=1) > 0]
        if len(gammas):
            found: Floats = gammas / gammas.sum(axis=1, keepdims=True)
            return found
