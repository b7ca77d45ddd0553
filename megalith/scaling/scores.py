"""From compute to a score, in two steps: the bits per byte of the right answer over FLOPs, then accuracy over those.

The first step is a power law with a floor, as of the loss; the second a sigmoid from the task's chance to a ceiling
(as the downstream ladders do: 2412.04403). Beside it stands the direct law, accuracy as a sigmoid of log FLOPs, which
has nothing to hold on to until scores leave chance; there both are refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling.forecasters import lowest_losses
from megalith.scaling.points import Floats
from megalith.scaling.power_law import quantiles

LEAST_RUNS = 6
_ABOVE_CHANCE = 2.0  # standard errors by which some runs must be above chance
_LEAST_ABOVE = 3


@dataclass(frozen=True)
class Scored:
    """Models scored on one task, one entry each."""

    flops: Floats
    bits_per_byte: Floats
    """Those of the right answer."""
    accuracy: Floats
    items: int
    chance: float


@dataclass(frozen=True)
class ScoreLaw:
    """Both laws, fitted: log E, log K, log γ of bits per byte about C̄; ceiling, slope and middle of each sigmoid."""

    centre_flops: float
    bits: Floats
    by_bits: Floats
    by_flops: Floats
    chance: float

    def bits_at(self, flops: Floats) -> Floats:
        log_e, log_k, log_gamma = self.bits
        return np.asarray(np.exp(log_e) + np.exp(log_k - np.exp(log_gamma) * np.log(flops / self.centre_flops)))

    def accuracy_at(self, flops: Floats) -> Floats:
        """In two steps."""
        return _sigmoid(self.by_bits, self.bits_at(flops), self.chance)

    def direct_at(self, flops: Floats) -> Floats:
        return _sigmoid(self.by_flops, -np.log(flops / self.centre_flops), self.chance)


def fit_scores(scored: Scored) -> ScoreLaw:
    """Fit both laws. Raises InputError where models are too few, or their scores are still at chance."""
    if len(scored.flops) < LEAST_RUNS:
        raise InputError(
            f"{len(scored.flops)} models are too few for a law of scores.", mend=f"Use {LEAST_RUNS} or more."
        )
    error = float(np.sqrt(scored.chance * (1 - scored.chance) / scored.items))
    above = int((scored.accuracy > scored.chance + _ABOVE_CHANCE * error).sum())
    if above < _LEAST_ABOVE:
        raise InputError(
            f"{above} of {len(scored.flops)} models score above chance ({scored.chance:.3g}) by more than "
            f"{_ABOVE_CHANCE:g} standard errors, and a law of accuracy needs {_LEAST_ABOVE}.",
            mend="Use larger models, more items, or the bits per byte of the right answer.",
        )
    centre = float(np.exp(np.log(scored.flops).mean()))
    bits = lowest_losses(scored.flops / centre, scored.bits_per_byte)
    return ScoreLaw(
        centre_flops=centre,
        bits=bits,
        by_bits=_fit_sigmoid(scored.bits_per_byte, scored),
        by_flops=_fit_sigmoid(-np.log(scored.flops / centre), scored),
        chance=scored.chance,
    )


def predict_score(
    scored: Scored, flops: float, *, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> dict[str, Any]:
    """The accuracy at `flops` in two steps and directly, each with the interval of resampled models."""
    at = np.array([flops])
    law = fit_scores(scored)
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = random.integers(0, len(scored.flops), len(scored.flops))
        items = np.clip(random.binomial(scored.items, scored.accuracy[chosen]) / scored.items, 0, 1)
        part = Scored(scored.flops[chosen], scored.bits_per_byte[chosen], items, scored.items, scored.chance)
        try:
            again = fit_scores(part)
        except InputError:  # a draw at chance, or of too few different models
            continue
        draws.append((again.bits_at(at)[0], again.accuracy_at(at)[0], again.direct_at(at)[0]))
    rows = np.array(draws).reshape(-1, 3)
    values = law.bits_at(at)[0], law.accuracy_at(at)[0], law.direct_at(at)[0]
    names = "bits_per_byte", "accuracy", "direct_accuracy"
    return {
        "flops": flops,
        "beyond": float(flops / scored.flops.max()),
        **{name: float(value) for name, value in zip(names, values, strict=True)},
        "intervals": {
            name: list(quantiles(column, level)) if len(rows) else None
            for name, column in zip(names, rows.T, strict=True)
        },
        "draws": len(rows),
    }


def _sigmoid(theta: Floats, x: Floats, chance: float) -> Floats:
    """Chance + (ceiling − chance)/(1 + e^(slope·(x − middle))), falling in x."""
    ceiling, log_slope, middle = theta
    return np.asarray(chance + (ceiling - chance) / (1 + np.exp(np.clip(np.exp(log_slope) * (x - middle), -60, 60))))


def _fit_sigmoid(x: Floats, scored: Scored) -> Floats:
    """(ceiling, log slope, middle) by least squares, each model weighed by its binomial error."""
    from scipy.optimize import least_squares

    p = np.clip(scored.accuracy, 0.5 / scored.items, 1 - 0.5 / scored.items)
    error = np.sqrt(p * (1 - p) / scored.items)
    spread = max(float(np.ptp(x)), 1e-6)

    def residual(theta: Floats) -> Floats:
        return np.asarray((_sigmoid(theta, x, scored.chance) - scored.accuracy) / error)

    best = float(scored.accuracy.max())
    low = min(1.0, max(best, scored.chance + 1e-3))
    starts = [
        np.array([min(1.0, low + 0.3 * (1 - low)), np.log(steep / spread), middle])
        for steep in (2.0, 6.0) for middle in (float(x.min()), float(np.median(x)))
    ]  # fmt: skip
    bounds = ([scored.chance, np.log(0.1 / spread), x.min() - 3 * spread], [1.0 + 1e-9, np.log(100 / spread), x.max()])
    found = [least_squares(residual, np.clip(start, *bounds), bounds=bounds) for start in starts]
    return np.asarray(min(found, key=lambda one: one.cost).x)
