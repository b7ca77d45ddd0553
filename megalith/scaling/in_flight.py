"""The loss at the end of a run that is under way, and when the rest of it gains too little.

Tissue et al. (2408.11029): L = L0 + A·S1^−α − C·S2, where S1 is the sum of the learning rates so far and S2 what their
fall has gained (each fall fades by λ = 0.999 a step). It reads any schedule, so the part of a cosine that is still to
come is foretold by the part that has been seen.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling.points import Floats
from megalith.scaling.power_law import quantiles

LEAST_SHARE = 0.2  # of the run: before it the curve says little of the end
WORTH = 0.005  # of the loss: the gain below which the rest of a run may be given up
_FADING = 0.999
_WARMUP_SHARE = 0.05  # of the steps seen, which follow no law yet
_BINS = 120
_DRAWS = 60


@dataclass(frozen=True)
class Curve:
    """A run under way: its schedule, and the losses of the steps that it has made."""

    tokens: Floats
    """After each step of the whole run."""
    learning_rate: Floats
    """One for each step of the whole run."""
    loss: Floats
    """Training loss of the first steps."""


def forecast_run(run: Curve, *, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """The training loss at the run's end with its interval, and the tokens after which the rest gains under 0.5 %.

    Raises InputError for a run that has hardly begun.
    """
    seen, whole = len(run.loss), len(run.tokens)
    if seen < LEAST_SHARE * whole or seen < 50:
        raise InputError(
            f"{seen} of {whole} steps are made, and a forecast needs a fifth of the run and 50 steps.",
            mend="Use --from again when more of it is done.",
        )
    s1, s2 = _areas(run.learning_rate)
    first = max(1, int(_WARMUP_SHARE * seen), int(run.learning_rate.argmax()))
    edges = np.unique(np.geomspace(first, seen, _BINS + 1).astype(int)) if first < seen - 10 else np.arange(seen + 1)
    log_loss = np.array([np.log(run.loss[a:b]).mean() for a, b in pairwise(edges)])
    at = (edges[:-1] + edges[1:] - 1) // 2
    widths = np.sqrt(np.diff(edges))
    theta = _fit(s1[at], s2[at], log_loss, widths)
    fitted = np.log(_loss(theta, s1[at], s2[at]))
    residual = (log_loss - fitted) * widths
    random = np.random.default_rng(seed)
    ends = []
    for _ in range(_DRAWS):
        shaken = fitted + random.choice(residual, len(residual)) / widths
        again = _fit(s1[at], s2[at], shaken, widths, theta)
        ends.append(float(_loss(again, s1[-1:], s2[-1:])[0]))
    path = _loss(theta, s1, s2)
    last = float(path[-1])
    enough = int(np.flatnonzero(path - last > WORTH * last)[-1]) + 1 if path[0] - last > WORTH * last else 0
    low, high = quantiles(np.array(ends), level)
    return {
        "steps_made": seen,
        "steps": whole,
        "tokens": float(run.tokens[seen - 1]),
        "loss_now": float(np.exp(log_loss[-5:].mean())),
        "loss_at_end": last,
        "interval": [min(low, last), max(high, last)],
        "level": level,
        "still_to_gain": float(np.exp(log_loss[-5:].mean()) / last - 1),
        "may_stop_at_tokens": float(run.tokens[min(max(enough, 0), whole - 1)]),
        "may_stop_at_step": min(enough + 1, whole),
        "worth": WORTH,
    }


def _areas(rates: Floats) -> tuple[Floats, Floats]:
    """S1 and S2 after each step."""
    fall = np.maximum(0.0, -np.diff(rates, prepend=rates[0]))
    momentum = np.empty_like(fall)
    held = 0.0
    for step, one in enumerate(fall):
        held = _FADING * held + one
        momentum[step] = held
    return np.cumsum(rates), np.cumsum(momentum)


def _loss(theta: Floats, s1: Floats, s2: Floats) -> Floats:
    floor, log_height, alpha, gain = theta
    return np.asarray(np.maximum(1e-6, floor + np.exp(log_height) * s1**-alpha - gain * s2))


def _fit(s1: Floats, s2: Floats, log_loss: Floats, widths: Floats, begin: Floats | None = None) -> Floats:
    """(L0, log A, α, C), by least squares of log L that far residuals pull less; C is not negative."""
    from scipy.optimize import least_squares

    least = float(np.exp(log_loss.min()))
    middle = float(np.exp(log_loss.max()))

    def residual(theta: Floats) -> Floats:
        return np.asarray((np.log(_loss(theta, s1, s2)) - log_loss) * widths)

    starts = [begin] if begin is not None else [
        np.array([part * least, np.log(max(1e-3, middle - part * least)) + alpha * np.log(s1[0]), alpha, 0.0])
        for part in (0.4, 0.8) for alpha in (0.2, 0.5)
    ]  # fmt: skip
    bounds = ([0.0, -50.0, 0.02, 0.0], [middle, 50.0, 2.0, np.inf])
    found = [least_squares(residual, start, bounds=bounds, loss="soft_l1", f_scale=0.02) for start in starts]
    return np.asarray(min(found, key=lambda one: one.cost).x)
