"""Losses of data sets from the weights of a mixture: four regressions, the choice among them, and how far it ranks.

Each is a ridge regression whose penalty, for each data set's loss by itself, has the least leave-one-out error (closed
form); the target's loss is the weighted mean of what is foretold for the data sets.

    linear        L = a + Σ b·w
    logarithmic   L = a + Σ b·w + Σ c·log(w + 0.01): a loss falls with the logarithm of what was read
    quadratic     L = a + Σ b·w + Σ c·w·w'
    exponential   L = c + exp(a + Σ b·w): data mixing laws (2403.16952), and OLMix's log-linear regression

RegMix's own choice, boosted trees, wants hundreds of runs. Which one ranks mixtures that it has not seen is told by
Spearman's correlation over k-fold cross-validation, within whose training parts the choice is made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("linear", "logarithmic", "quadratic", "exponential")
FOLDS, REPEATS = 5, 8
_PENALTIES = np.logspace(-6, 2, 17)
_FLOORS = 1 - np.logspace(0, -2.5, 26)  # of the exponential, relative to the least loss
_SOFT = 0.01  # weights below this count for about as little as none
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """A fitted one."""

    kind: str
    centre: Floats
    scale: Floats
    coefficients: Floats
    """(features, data sets)"""
    constants: Floats
    floors: Floats
    left_out: Floats
    """Predictions for the runs it was fitted to, each without that run (runs, data sets)."""

    def predict(self, weights: Floats) -> Floats:
        """Losses (mixtures, data sets)."""
        linear = (features(self.kind, weights) - self.centre) / self.scale @ self.coefficients + self.constants
        found: Floats = self.floors + np.exp(linear) if self.kind == "exponential" else linear
        return found


def features(kind: str, weights: Floats) -> Floats:
    """The terms of a regression (mixtures, terms)."""
    if kind == "logarithmic":
        return np.concatenate([weights, np.log(weights + _SOFT)], axis=1)
    if kind == "quadratic":
        first, second = np.triu_indices(weights.shape[1])
        return np.concatenate([weights, weights[:, first] * weights[:, second]], axis=1)
    return weights


def fit(kind: str, weights: Floats, losses: Floats) -> Regression:
    """Fit weights (runs, data sets) to losses (runs, data sets)."""
    terms = features(kind, weights)
    centre, scale = terms.mean(axis=0), terms.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (terms - centre) / scale
    if kind != "exponential":
        coefficients, constants, left_out = _ridge(z, losses)
        return Regression(kind, centre, scale, coefficients, constants, np.zeros(losses.shape[1]), left_out)
    floors = _FLOORS[:, None] * losses.min(axis=0)  # (floors, data sets)
    above = np.log(losses[:, None] - floors).reshape(len(losses), -1)
    shape = (-1, *floors.shape)
    coefficients, constants, left_out = (one.reshape(shape) for one in _ridge(z, above))
    left_out = floors + np.exp(left_out)
    best = ((left_out - losses[:, None]) ** 2).sum(axis=0).argmin(axis=0)
    own = (slice(None), best, np.arange(losses.shape[1]))
    return Regression(kind, centre, scale, coefficients[own], constants[own][0], floors[own[1:]], left_out[own])


def choose(weights: Floats, losses: Floats, target: Floats) -> tuple[Regression, dict[str, float]]:
    """The regression with the least leave-one-out error of the target's loss, and that error of each (RMS, nats)."""
    fitted = {kind: fit(kind, weights, losses) for kind in KINDS}
    errors = {kind: float(np.sqrt((((one.left_out - losses) @ target) ** 2).mean())) for kind, one in fitted.items()}
    return fitted[min(errors, key=lambda kind: errors[kind])], errors


def judge(weights: Floats, losses: Floats, target: Floats, seed: int) -> dict[str, Any]:
    """Spearman's correlation of predictions for runs that were held out with their losses, and its 95 % interval.

    The mean over repeated k-fold cross-validation; `predicted` is the mean over repeats for each run.
    """
    runs = len(weights)
    folds = min(FOLDS, runs)
    actual = losses @ target
    generator = np.random.default_rng([seed, 1])
    correlations, kept = [], []
    for _ in range(REPEATS):
        predicted = np.empty(runs)
        for fold in np.array_split(generator.permutation(runs), folds):
            rest = np.setdiff1d(np.arange(runs), fold)
            chosen, _ = choose(weights[rest], losses[rest], target)
            predicted[fold] = chosen.predict(weights[fold]) @ target
        correlations.append(spearman(predicted, actual))
        kept.append(predicted)
    found = float(np.mean(correlations))
    return {
        "spearman": found,
        "interval": list(spearman_interval(found, runs)),
        "folds": folds,
        "repeats": REPEATS,
        "predicted": np.mean(kept, axis=0).tolist(),
        "actual": actual.tolist(),
    }


def spearman(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float:
    """Spearman's rank correlation; 0 where either does not vary."""
    from scipy import stats

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def spearman_interval(correlation: float, runs: int) -> tuple[float, float]:
    """The 95 % interval by Fisher's z with the variance (1 + ρ²/2)/(n − 3) of Bonett and Wright (2000)."""
    from megalith.statistics.intervals import Z_95

    if runs <= 3:
        return -1.0, 1.0
    z = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    half = Z_95 * np.sqrt((1 + correlation**2 / 2) / (runs - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _ridge(z: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Coefficients (terms, outputs), constants (outputs) and leave-one-out predictions (runs, outputs).

    `z` has columns of mean 0. The penalty of each output has its least leave-one-out error.
    """
    runs = len(z)
    constants = y.mean(axis=0)
    centred = y - constants
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    projected = u.T @ centred
    penalties = _PENALTIES * runs
    shrink = s**2 / (s**2 + penalties[:, None])  # (penalties, terms)
    leverage = 1 / runs + (u**2) @ shrink.T  # (runs, penalties)
    residual = centred - (u * shrink[:, None]) @ projected  # (penalties, runs, outputs)
    residual /= np.maximum(1 - leverage.T, 1e-9)[..., None]
    best = (residual**2).sum(axis=1).argmin(axis=0)  # (outputs)
    every = np.arange(y.shape[1])
    coefficients = vt.T @ (s[:, None] / (s[:, None] ** 2 + penalties[best]) * projected)
    return coefficients, constants, y - residual[best, :, every].T
