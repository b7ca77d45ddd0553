"""The robust fit of many laws at once: Huber's loss of log L, by BFGS over a batch of starts or of bootstrap samples.

Chinchilla's objective (2203.15556 §D.2): Huber's loss with δ = 1e-3 of the residuals of log L, **summed** over the
runs. A mean is so flat that a quasi-Newton method stops early, which is how the paper's own figures came out wrong
(2404.10102); so convergence is judged here relative to the objective, whatever its scale.

A batch shares every evaluation: 4,000 bootstrap samples are weights (4000, runs) on the same runs, and take seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from megalith.scaling.points import Floats

DELTA = 1e-3
_MOST_STEPS = 600
_MOST_HALVINGS = 30
_SLOPE_KEPT = 1e-4  # Armijo
_TOLERANCE = 1e-13  # relative decrease of the objective; three such steps in a row end a descent
_PATIENCE = 3
_BLOCK = 500_000  # numbers of one evaluation's (batch, runs) array: what stays in the caches

Pullback = Callable[[Floats], Floats]
"""∂/∂log L̂ (batch, runs) to ∂/∂θ (batch, constants)."""


class Law(Protocol):
    """A law of the loss, in constants θ on runs that it holds."""

    def __call__(self, theta: Floats) -> tuple[Floats, Pullback]:
        """log L̂ (batch, runs) at θ (batch, constants), and its pullback."""
        ...


@dataclass(frozen=True)
class Descent:
    """The ends of a batch of descents."""

    theta: Floats
    """(batch, constants)"""
    objective: Floats
    """(batch,)"""


def huber(residual: Floats) -> Floats:
    """Huber's loss, entry by entry."""
    size = np.abs(residual)
    return np.where(size <= DELTA, size * size / 2, DELTA * (size - DELTA / 2))


def objective_and_gradient(law: Law, theta: Floats, log_loss: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Σ w · Huber(log L̂ − log L), (batch,), and its gradient, (batch, constants)."""
    predicted, pullback = law(theta)
    residual = predicted - log_loss
    slope = np.clip(residual, -DELTA, DELTA)
    # Huber's loss is slope · (residual − slope / 2) on both of its pieces
    value = np.einsum("bn,bn->b", weights, slope * (residual - slope / 2))
    return value, pullback(weights * slope)


def descend(law: Law, log_loss: Floats, starts: Floats, weights: Floats, free: Sequence[int] | None = None) -> Descent:
    """BFGS from each of `starts` (batch, constants), each with its own `weights` (batch, runs) or (1, runs).

    Only the constants `free` move. The ends are minima to a relative 1e-13 of the objective.
    """
    size = max(1, _BLOCK // max(1, len(log_loss)))
    blocks = [slice(first, first + size) for first in range(0, len(starts), size)]
    chosen = np.arange(starts.shape[1]) if free is None else np.asarray(free)
    with np.errstate(all="ignore"):  # a step may go anywhere: what is not finite is not taken
        parts = [
            _descend(law, log_loss, starts[block], weights[block] if len(weights) > 1 else weights, chosen)
            for block in blocks
        ]
    return Descent(np.concatenate([part.theta for part in parts]), np.concatenate([part.objective for part in parts]))


def _descend(law: Law, log_loss: Floats, starts: Floats, weights: Floats, free: np.ndarray) -> Descent:
    theta = starts.copy()
    weights = np.broadcast_to(weights, (len(starts), weights.shape[1]))

    def evaluate(rows: np.ndarray, at: Floats) -> tuple[Floats, Floats]:
        value, gradient = objective_and_gradient(law, at, log_loss, weights[rows])
        return np.where(np.isfinite(value), value, np.inf), gradient[:, free]

    every = np.arange(len(starts))
    value, gradient = evaluate(every, theta)
    unit = np.eye(len(free))
    # the first step moves each constant by a tenth at most
    inverse = unit / np.maximum(10 * np.abs(gradient).max(axis=1), 1e-300)[:, None, None]
    waited = np.zeros(len(starts), dtype=int)
    active = every
    fresh = np.ones(len(starts), dtype=bool)
    for _ in range(_MOST_STEPS):
        if not len(active):
            break
        direction = -np.einsum("bij,bj->bi", inverse[active], gradient[active])
        slope = np.einsum("bi,bi->b", direction, gradient[active])
        lost = ~(slope < 0)
        if lost.any():
            rows = active[lost]
            inverse[rows] = unit / np.maximum(10 * np.abs(gradient[rows]).max(axis=1), 1e-300)[:, None, None]
            direction[lost] = -np.einsum("bij,bj->bi", inverse[rows], gradient[rows])
            slope = np.einsum("bi,bi->b", direction, gradient[active])
        step, new_value, new_gradient = _search(evaluate, active, theta, free, direction, slope, value)
        moved = step[:, None] * direction
        change = new_gradient - gradient[active]
        _update(inverse, active, moved, change, fresh, unit)
        gained = value[active] - new_value
        small = gained <= _TOLERANCE * np.abs(value[active])
        waited[active] = np.where(small, waited[active] + 1, 0)
        theta[np.ix_(active, free)] += moved
        value[active], gradient[active] = new_value, new_gradient
        active = active[waited[active] < _PATIENCE]
    return Descent(theta, value)


def _search(
    evaluate: Callable[[np.ndarray, Floats], tuple[Floats, Floats]],
    active: np.ndarray,
    theta: Floats,
    free: np.ndarray,
    direction: Floats,
    slope: Floats,
    value: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Steps that lower the objective enough (Armijo), 0 where none does; with the values and gradients there."""
    step = np.ones(len(active))
    open_rows = np.arange(len(active))
    new_value = value[active].copy()
    new_gradient = np.zeros((len(active), len(free)))
    for halving in range(_MOST_HALVINGS):
        rows = active[open_rows]
        at = theta[rows]
        at[:, free] += step[open_rows, None] * direction[open_rows]
        found, slopes = evaluate(rows, at)
        good = found <= value[rows] + _SLOPE_KEPT * step[open_rows] * slope[open_rows]
        taken = open_rows[good]
        new_value[taken], new_gradient[taken] = found[good], slopes[good]
        open_rows = open_rows[~good]
        if not len(open_rows):
            return step, new_value, new_gradient
        step[open_rows] *= 0.5 if halving < 4 else 0.1
    step[open_rows] = 0.0
    _, slopes = evaluate(active[open_rows], theta[active[open_rows]])
    new_gradient[open_rows] = slopes
    return step, new_value, new_gradient


def _update(
    inverse: Floats, active: np.ndarray, moved: Floats, change: Floats, fresh: np.ndarray, unit: Floats
) -> None:
    """BFGS's update of the inverse Hessians, where the curvature along the step is positive; else begin anew."""
    product = np.einsum("bi,bi->b", moved, change)
    length = np.einsum("bi,bi->b", moved, moved)
    good = product > np.maximum(1e-12 * np.sqrt(length * np.einsum("bi,bi->b", change, change)), 1e-150)
    rows, s, y, sy = active[good], moved[good], change[good], product[good]
    first = fresh[rows]
    scale = sy[first] / np.einsum("bi,bi->b", y[first], y[first])
    inverse[rows[first]] = unit * scale[:, None, None]
    fresh[rows] = False
    h = inverse[rows]
    hy = np.einsum("bij,bj->bi", h, y)
    yhy = np.einsum("bi,bi->b", y, hy)
    inverse[rows] = (
        h
        + ((sy + yhy) / sy**2)[:, None, None] * s[:, :, None] * s[:, None, :]
        - (hy[:, :, None] * s[:, None, :] + s[:, :, None] * hy[:, None, :]) / sy[:, None, None]
    )
    stuck = active[~good & (length > 0)]
    inverse[stuck] *= 4.0  # concave here: a longer step
