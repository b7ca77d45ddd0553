"""The data-constrained law (Muennighoff et al., 2305.16264): tokens that repeat are worth less than fresh ones.

L = E + A/N'^α + B/D'^β with D' = U_D·(1 + R_D*·(1 − e^(−R_D/R_D*))), where U_D are the unique tokens and
R_D = D/U_D − 1 their repetitions; N' likewise, with U_N = min(N, the N that is optimal for U_D) and R_N = N/U_N − 1.
E, A, B, α, β are those of the runs of one epoch; R_D* and R_N* are then fitted to the others.

With one model size alone A and α cannot be told from E: the law is then L = E' + B/D'^β, and R_N* is left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.laws import RepeatedTokens, effective
from megalith.scaling.approach_3 import LEAST_POINTS, best_valley, bootstrap, refuse_bounds
from megalith.scaling.huber import descend, huber
from megalith.scaling.parametric import ALPHA, BETA, LOG_A, LOG_B, LOG_E, ChinchillaLaw
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import quantiles

LEAST_REPEATED = 3
_ONE_EPOCH = 1.001
_ONE_SIZE = 1.01  # the largest size over the smallest
_LARGEST_LOG = np.log(1e4)  # of R*: beyond it repetition costs nothing that these runs show
_GRID = np.linspace(np.log(0.05), _LARGEST_LOG, 61)


@dataclass(frozen=True)
class RepetitionFit:
    """How repeated tokens, and excess parameters, lose their worth."""

    theta: Floats
    """Constants of the law without repetition: (log A, log B, log E, α, β); log A is −∞ where runs have one size."""
    tokens: RepeatedTokens
    r_d: Floats
    """Bootstrap draws of R_D*."""
    r_n: Floats | None
    one_size: bool
    runs: int
    at_bound: float
    """Share of the draws of R_D* at the end of its range: what the runs say is then a bound, not a value."""
    points: Points
    """All runs, with and without repetition."""

    @property
    def predicted(self) -> Floats:
        """Loss of each run by the law."""
        stars = np.array([[self.tokens.r_d, self.tokens.r_n]])
        return np.asarray(_loss(self.theta[None], self.points, stars)[0])

    def _rows(self) -> list[list[float]]:
        points = self.points
        columns = (points.parameters, points.tokens, points.unique_tokens, points.loss, self.predicted)
        return [[float(value) for value in row] for row in zip(*columns, strict=True)]

    def facts(self, level: float = 0.95) -> dict[str, Any]:
        """The figures for `--json`; `pays_until` are epochs at which a repeated token is worth half of a fresh one.

        `runs` are rows of N, D, unique tokens, loss and the loss by this law.
        """
        low, high = quantiles(self.r_d, level)
        return {
            "R_D": self.tokens.r_d,
            "R_D_interval": [low, high],
            "R_N": self.tokens.r_n if self.r_n is not None else None,
            "R_N_interval": None if self.r_n is None else list(quantiles(self.r_n, level)),
            "pays_until": self.tokens.half_worth_epochs,
            "pays_until_interval": [1 + end * float(np.log(2)) for end in (low, high)],
            "most_worth": 1 + self.tokens.r_d,
            "one_size": self.one_size,
            "repeated_runs": self.runs,
            "at_bound": self.at_bound,
            "runs": self._rows(),
        }


def fit_repetition(points: Points, *, resamples: int = 400, seed: int = 0) -> RepetitionFit:
    """Fit the law. Raises InputError where too few runs repeat their tokens, or too few do not."""
    repeats = points.epochs > _ONE_EPOCH
    fresh, repeated = points[~repeats], points[repeats]
    if len(repeated) < LEAST_REPEATED:
        raise InputError(
            f"runs that repeat their tokens: {len(repeated)}, and {LEAST_REPEATED} are needed.",
            mend="Use a column unique_tokens or epochs, and runs of more than one epoch.",
        )
    one_size = is_one_size(points)
    theta, draws = _one_size(fresh, resamples, seed) if one_size else _all_sizes(fresh, resamples, seed)
    best = _search(theta[None], repeated, np.ones((1, len(repeated))), one_size=one_size)
    random = np.random.default_rng(seed + 1)
    chosen = random.multinomial(len(repeated), np.full(len(repeated), 1 / len(repeated)), resamples).astype(float)
    found = _search(draws, repeated, chosen, one_size=one_size)
    return RepetitionFit(
        theta=theta,
        tokens=RepeatedTokens(float(np.exp(best[0, 0])), float(np.exp(best[0, 1]))),
        r_d=np.exp(found[:, 0]),
        r_n=None if one_size else np.exp(found[:, 1]),
        one_size=one_size,
        runs=len(repeated),
        at_bound=float((found[:, 0] >= _GRID[-2]).mean()),
        points=points,
    )


def is_one_size(points: Points) -> bool:
    """Whether all runs have about the same number of parameters."""
    return bool(np.ptp(points.log_n) < np.log(_ONE_SIZE))


def _all_sizes(fresh: Points, resamples: int, seed: int) -> tuple[Floats, Floats]:
    if len(fresh) < LEAST_POINTS:
        raise InputError(
            f"runs of one epoch: {len(fresh)}, and the five constants of the law without repetition need "
            f"{LEAST_POINTS}.",
            mend="Use more runs of one epoch, of several sizes and lengths.",
        )
    theta, _, _ = best_valley(fresh)
    refuse_bounds(theta, fresh, pinned=False)
    return theta, bootstrap(fresh, theta, resamples, seed)


def _one_size(fresh: Points, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """E' + B/D^β on runs of one size: A's term is held at nothing."""
    if len(np.unique(fresh.tokens)) < 4:
        raise InputError(
            f"lengths of one epoch: {len(np.unique(fresh.tokens))}, and E, B and β need 4.",
            mend="Use more runs of one epoch, of different lengths.",
        )
    starts = np.array([(-np.inf, b, e, 0.3, beta) for b in (2.0, 6.0, 10.0) for e in (0.3, 1.0) for beta in (0.2, 0.5)])
    law, free = ChinchillaLaw.of(fresh), (LOG_B, LOG_E, BETA)
    ends = descend(law, fresh.log_loss, starts, np.ones((1, len(fresh))), free)
    theta = ends.theta[int(ends.objective.argmin())]
    runs = len(fresh)
    weights = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), resamples).astype(float)
    return theta, descend(law, fresh.log_loss, np.tile(theta, (resamples, 1)), weights, free).theta


def _search(theta: Floats, repeated: Points, weights: Floats, *, one_size: bool) -> Floats:
    """log R_D* and log R_N* (batch, 2) of the least Σ w·Huber: by a grid in turns, then finer grids about the best."""
    found = np.tile(np.log([15.0, 5.0]), (len(theta), 1))
    reach = (_GRID[-1] - _GRID[0]) / 2
    middle = np.full((len(theta), 2), (_GRID[-1] + _GRID[0]) / 2)
    for round_number in range(6):
        for which in (0,) if one_size else (0, 1):
            offsets = np.linspace(-reach, reach, 61)
            values = np.clip(middle[:, which, None] + offsets, _GRID[0], _GRID[-1])  # (batch, tried)
            costs = np.stack([_cost(theta, repeated, weights, found, which, tried) for tried in values.T], axis=1)
            found[:, which] = values[np.arange(len(theta)), costs.argmin(axis=1)]
            middle[:, which] = found[:, which]
        if round_number % 2:
            reach /= 12
    return found


def _cost(theta: Floats, points: Points, weights: Floats, found: Floats, which: int, tried: Floats) -> Floats:
    """Σ w·Huber with one of the two constants at `tried` (batch,)."""
    at = found.copy()
    at[:, which] = tried
    with np.errstate(over="ignore", invalid="ignore"):
        predicted = np.log(_loss(theta, points, np.exp(at)))
    return np.asarray((weights * huber(predicted - points.log_loss)).sum(axis=1))


def _loss(theta: Floats, points: Points, stars: Floats) -> Floats:
    """L (batch, runs) at R_D*, R_N* (batch, 2)."""
    a, b, e, alpha, beta = (theta[:, place, None] for place in (LOG_A, LOG_B, LOG_E, ALPHA, BETA))
    data = effective(points.tokens, points.unique_tokens, stars[:, :1])
    by_size = np.zeros_like(data)
    if np.isfinite(a).all():
        # N that is optimal for U_D: A·α/N^α = B·β/D^β
        fitting = np.exp((a + np.log(alpha) - b - np.log(beta) + beta * np.log(points.unique_tokens)) / alpha)
        size = effective(points.parameters, np.minimum(points.parameters, fitting), stars[:, 1:])
        by_size = np.exp(a - alpha * np.log(size))
    return np.asarray(np.exp(e) + by_size + np.exp(b - beta * np.log(data)))
