"""Chinchilla's approach 3 (2203.15556 §3.3): L(N, D) = E + A/N^α + B/D^β fitted to the final losses of many runs.

The surface has many bad valleys, so there are 36 starts, always the same; `start_agreement` is the share that reach the
best valley. Intervals are those of resampled runs, widened by a lack-of-fit part: how far the constants move when the
largest runs are left out, beyond what the noise explains.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from megalith.errors import InputError
from megalith.laws import LossFormula
from megalith.scaling.huber import DELTA, descend
from megalith.scaling.parametric import ALPHA, BETA, LOG_A, LOG_B, LOG_E, ChinchillaLaw
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import quantiles

LEAST_POINTS = 8  # five unknowns, and something left to judge them by
LEVEL = 0.95
_AGREEMENT = 1e-3  # relative: a start whose objective is this near to the best has found the same valley
_LARGEST_EXPONENT = 2.0  # beyond it a term is a step, not a power law
_SMALLEST_E = 1e-4  # of the lowest loss: below it E has run to its bound, 0
_HUGE = 700.0  # a logarithm near the largest float's: what noise is fitted by may be larger still

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
    """95 % intervals, from resampled runs and the lack of fit: E, A, B, alpha, beta, and a in N ∝ C^a."""
    fit_seconds: float
    theta: Floats
    """(log A, log B, log E, α, β)."""
    draws: Floats
    """θ of resampled runs, (resamples, 5); without lack of fit."""
    pinned_E: bool = False  # noqa: N815 - E is the law's own name

    @property
    def a(self) -> float:
        """N ∝ C^a at the optimum."""
        return self.beta / (self.alpha + self.beta)

    @property
    def formula(self) -> LossFormula:
        return LossFormula(self.E, self.A, self.B, self.alpha, self.beta)


def fit_approach_3(
    points: Points, *, resamples: int = 0, seed: int = 0, pinned_e: float | None = None, lack_of_fit: bool = True
) -> Fit:
    """Fit the law; with `resamples`, bootstrap its intervals from that many resampled sets of runs.

    `pinned_e` holds E at that many nats. Raises InputError where the runs are too few, do not tell the terms of the law
    apart, or put the optimum on a bound.
    """
    start = time.perf_counter()
    if len(points) < LEAST_POINTS:
        raise InputError(f"{len(points)} runs are too few to fit five constants.", mend=f"Use {LEAST_POINTS} or more.")
    theta, objective, agreement = best_valley(points, pinned_e)
    refuse_bounds(theta, points, pinned=pinned_e is not None)
    draws = bootstrap(points, theta, resamples, seed, pinned=pinned_e is not None)
    intervals = None
    if resamples:
        shifts = constants_shift(points, theta, draws, seed, pinned=pinned_e is not None) if lack_of_fit else {}
        intervals = widened(figures(theta[None]), figures(draws), shifts)
    return Fit(
        E=float(np.exp(theta[LOG_E])),
        A=float(np.exp(theta[LOG_A])),
        B=float(np.exp(theta[LOG_B])),
        alpha=float(theta[ALPHA]),
        beta=float(theta[BETA]),
        objective=objective,
        points=len(points),
        start_agreement=agreement,
        intervals=intervals,
        fit_seconds=time.perf_counter() - start,
        theta=theta,
        draws=draws,
        pinned_E=pinned_e is not None,
    )


def best_valley(points: Points, pinned_e: float | None = None) -> tuple[Floats, float, float]:
    """θ of the lowest of 36 descents, its objective, and the share of starts that agree with it."""
    starts = _STARTS.copy()
    if pinned_e is not None:
        starts[:, LOG_E] = np.log(pinned_e) if pinned_e > 0 else -np.inf
    ends = descend(
        ChinchillaLaw.of(points), points.log_loss, starts, np.ones((1, len(points))), _free(pinned_e is not None)
    )
    best = int(ends.objective.argmin())
    agreement = float((ends.objective <= ends.objective[best] * (1 + _AGREEMENT)).mean())
    return ends.theta[best], float(ends.objective[best]), agreement


def refuse_bounds(theta: Floats, points: Points, *, pinned: bool) -> None:
    """Raise InputError where a term makes no difference, or a constant has run to its bound."""
    alpha, beta = float(theta[ALPHA]), float(theta[BETA])
    by_parameters = np.exp(np.minimum(theta[LOG_A] - alpha * points.log_n, _HUGE)) / points.loss
    by_tokens = np.exp(np.minimum(theta[LOG_B] - beta * points.log_d, _HUGE)) / points.loss
    if min(alpha, beta) <= 0 or min(np.ptp(by_parameters), np.ptp(by_tokens)) <= DELTA:
        raise InputError(
            "the loss of these runs does not fall with both parameters and tokens.",
            mend="Use runs that differ in parameters and in tokens, each to the end of its schedule.",
        )
    if max(alpha, beta) > _LARGEST_EXPONENT:
        name = "α" if alpha > beta else "β"
        raise InputError(
            f"the fit puts {name} at {max(alpha, beta):.2f}, beyond its bound of {_LARGEST_EXPONENT:g}: the runs do "
            "not show a power law.",
            mend="Use runs over a wider range of parameters and tokens.",
        )
    if not pinned and np.exp(theta[LOG_E]) < _SMALLEST_E * points.loss.min():
        raise InputError(
            "the fit puts E at its bound, 0: these runs do not show where the loss levels off.",
            mend="Use larger runs, or pin it with --pin-e 0.",
        )


def bootstrap(points: Points, theta: Floats, resamples: int, seed: int, *, pinned: bool = False) -> Floats:
    """θ refitted, from the best fit onwards, to runs drawn with replacement; (resamples, 5)."""
    if not resamples:
        return np.empty((0, len(theta)))
    runs = len(points)
    weights = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), resamples).astype(np.float64)
    found = descend(
        ChinchillaLaw.of(points), points.log_loss, np.tile(theta, (resamples, 1)), weights, _free(pinned)
    ).theta
    found[:, :3] = np.minimum(found[:, :3], _HUGE)
    return found


def figures(theta: Floats) -> dict[str, Floats]:
    """The constants that intervals are given for, of a batch of θ."""
    alpha, beta = theta[:, ALPHA], theta[:, BETA]
    return {
        "E": np.exp(theta[:, LOG_E]),
        "A": np.exp(theta[:, LOG_A]),
        "B": np.exp(theta[:, LOG_B]),
        "alpha": alpha,
        "beta": beta,
        "a": beta / (alpha + beta),
    }


def constants_shift(points: Points, theta: Floats, draws: Floats, seed: int, *, pinned: bool) -> dict[str, float]:
    """How far α, β and a move when the largest fifth of the runs is left out, beyond what the noise explains.

    The shift's variance is that of the smaller fit less that of the whole one (Hausman's).
    """
    order = np.argsort(points.flops, kind="stable")
    rest = points[order[: max(LEAST_POINTS, int(0.8 * len(points)))]]
    if len(rest) == len(points):
        return {}
    smaller = descend(ChinchillaLaw.of(rest), rest.log_loss, theta[None], np.ones((1, len(rest))), _free(pinned)).theta
    again = figures(bootstrap(rest, smaller[0], min(200, len(draws)), seed + 1, pinned=pinned))
    whole, here, before = figures(theta[None]), figures(draws), figures(smaller)
    shifts = {}
    for name in ("alpha", "beta", "a"):
        explained = max(0.0, float(np.var(again[name]) - np.var(here[name])))
        shifts[name] = float(np.sqrt(max(0.0, float(before[name][0] - whole[name][0]) ** 2 - explained)))
    return shifts


def widened(
    best: Mapping[str, Floats], draws: Mapping[str, Floats], shifts: Mapping[str, float], level: float = LEVEL
) -> dict[str, tuple[float, float]]:
    """Percentile intervals about the estimate, each side widened by the shift in quadrature."""
    found = {}
    for name, values in draws.items():
        centre = float(best[name][0])
        low, high = quantiles(values, level)
        shift = shifts.get(name, 0.0)
        found[name] = (low, high) if not shift else (
            centre - float(np.hypot(max(0.0, centre - low), shift)),
            centre + float(np.hypot(max(0.0, high - centre), shift)),
        )  # fmt: skip
    return found


def sound(draws: Floats) -> Floats:
    """The draws that are laws: both terms fall, and no constant has run away."""
    logs, exponents = draws[:, [LOG_A, LOG_B]], draws[:, [ALPHA, BETA]]
    kept = (np.abs(logs) < _HUGE / 4).all(axis=1) & (exponents > 0.01).all(axis=1) & (exponents < 50).all(axis=1)
    return np.asarray(draws[kept])


def _free(pinned: bool) -> tuple[int, ...]:
    return (LOG_A, LOG_B, ALPHA, BETA) if pinned else (LOG_A, LOG_B, LOG_E, ALPHA, BETA)
