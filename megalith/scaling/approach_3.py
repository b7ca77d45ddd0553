"""Chinchilla's approach 3 (2203.15556 §3.3): L(N, D) = E + A/N^α + B/D^β fitted to the final losses of many runs.

The fit is of log L, as a log-sum-exp, by Huber's loss with δ = 1e-3, which is summed over the runs, not averaged: a
mean is so flat that L-BFGS stops early, which is how the paper's own figures came out wrong (2404.10102). The surface
has many bad valleys: only about a third of the starts reach the best one, so there are 36, always the same.
"""

import itertools
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from megalith.console import progress
from megalith.errors import InputError
from megalith.scaling.points import Floats, Points

HUBER_DELTA = 1e-3  # Chinchilla §D.2
LEAST_POINTS = 8  # five unknowns, and something left to judge them by
_MOST_EVALUATIONS = 1000  # of one descent; runs that follow the law take up to 400, noise some thousands
_HUGE = 700.0  # a logarithm near the largest float's: what noise is fitted by may be larger still
_AGREEMENT = 1e-3  # relative: a start whose objective is this near to the best has found the same valley

# log A, log B, log E, α, β; within the ranges of the paper's grid (§D.2).
_STARTS = np.array(list(itertools.product((0.0, 10.0, 20.0), (0.0, 10.0, 20.0), (-0.5, 0.5), (0.3, 1.0))))
_STARTS = np.column_stack([_STARTS, _STARTS[:, 3]])


@dataclass(frozen=True)
class Fit:
    """The fitted law and how far to trust it."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float
    """Sum over the runs of Huber's loss of the residuals of log L."""
    points: int
    start_agreement: float
    """Share of the starts that ended in the same valley."""
    intervals: dict[str, tuple[float, float]] | None
    """95 % percentile intervals over resampled runs, of E, A, B, alpha, beta and of a in N ∝ C^a."""
    fit_seconds: float


def fit_approach_3(points: Points, *, resamples: int = 0, seed: int = 0) -> Fit:
    """Fit the law; with `resamples`, bootstrap its intervals from that many resampled sets of runs.

    Raises InputError where the runs are too few, or do not tell the terms of the law apart.
    """
    start = time.perf_counter()
    if len(points) < LEAST_POINTS:
        raise InputError(f"{len(points)} runs are too few to fit five constants.", mend=f"Use {LEAST_POINTS} or more.")
    ends = [_descend(guess, points) for guess in _STARTS]
    objectives = np.array([value for _, value in ends])
    best = int(objectives.argmin())
    theta = ends[best][0]
    if not _both_terms_matter(theta, points):
        raise InputError(
            "the loss of these runs does not fall with both parameters and tokens.",
            mend="Use runs that differ in parameters and in tokens, each to the end of its schedule.",
        )
    agreement = float((objectives <= objectives[best] * (1 + _AGREEMENT)).mean())
    intervals = _bootstrap(theta, points, resamples, seed) if resamples else None
    a, b, e = np.exp(theta[:3])
    return Fit(
        E=float(e),
        A=float(a),
        B=float(b),
        alpha=float(theta[3]),
        beta=float(theta[4]),
        objective=float(objectives[best]),
        points=len(points),
        start_agreement=agreement,
        intervals=intervals,
        fit_seconds=time.perf_counter() - start,
    )


def objective_and_gradient(theta: Floats, log_n: Floats, log_d: Floats, log_l: Floats) -> tuple[float, Floats]:
    """Σ Huber(log L̂ − log L) and its gradient at theta = (log A, log B, log E, α, β)."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])  # (3, runs)
    top = terms.max(axis=0)
    weights = np.exp(terms - top)
    total = weights.sum(axis=0)
    residual = top + np.log(total) - log_l
    weights /= total
    size = np.abs(residual)
    huber = np.where(size <= HUBER_DELTA, residual**2 / 2, HUBER_DELTA * (size - HUBER_DELTA / 2))
    slope = weights * np.clip(residual, -HUBER_DELTA, HUBER_DELTA)  # (3, runs)
    gradient = np.array([*slope.sum(axis=1), -(slope[0] @ log_n), -(slope[1] @ log_d)])
    return float(huber.sum()), gradient


def _both_terms_matter(theta: Floats, points: Points) -> bool:
    """Whether A/N^α and B/D^β fall, and each makes a difference to the loss of some run."""
    a, b, _, alpha, beta = theta
    by_parameters = np.exp(a - alpha * np.log(points.parameters)) / points.loss
    by_tokens = np.exp(b - beta * np.log(points.tokens)) / points.loss
    return bool(min(alpha, beta) > 0 and min(np.ptp(by_parameters), np.ptp(by_tokens)) > HUBER_DELTA)


def _descend(guess: Floats, points: Points) -> tuple[Floats, float]:
    logs = np.log(points.parameters), np.log(points.tokens), np.log(points.loss)
    found = minimize(
        objective_and_gradient,
        guess,
        args=logs,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": _MOST_EVALUATIONS, "maxfun": _MOST_EVALUATIONS},
    )
    return np.asarray(found.x), float(found.fun)


def _bootstrap(theta: Floats, points: Points, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Refit, from the best fit onwards, on runs drawn with replacement."""
    draw = np.random.default_rng(seed)
    found = np.empty((resamples, 5))
    with progress() as display:
        task = display.add_task("bootstrap", total=resamples)
        for index in range(resamples):
            chosen: NDArray[np.intp] = draw.integers(0, len(points), len(points))
            found[index] = _descend(theta, points[chosen])[0]
            display.advance(task)
    found[:, :3] = np.minimum(found[:, :3], _HUGE)
    alpha, beta = found[:, 3], found[:, 4]
    figures = {
        "E": np.exp(found[:, 2]),
        "A": np.exp(found[:, 0]),
        "B": np.exp(found[:, 1]),
        "alpha": alpha,
        "beta": beta,
        "a": beta / (alpha + beta),
    }
    return {name: _percentiles(values) for name, values in figures.items()}


def _percentiles(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
