"""Questions put to a fit of approach 3: how well it foretells larger runs, where E may lie, whether its terms bend."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling.approach_3 import LEAST_POINTS, Fit, best_valley, bootstrap, refuse_bounds
from megalith.scaling.huber import DELTA, descend, huber
from megalith.scaling.parametric import ALPHA, BETA, LOG_A, LOG_B, LOG_E, ChinchillaLaw, CurvedLaw
from megalith.scaling.points import Floats, Points

_FOLDS = 10
_WIDE = 3 * DELTA  # about a residual of 0: where the density of the residuals is counted


@dataclass(frozen=True)
class HeldOut:
    """How a law fitted to the smaller runs foretells the larger ones."""

    way: str
    runs: int
    factor: float
    """The largest FLOPs held out over the largest fitted."""
    mape: float
    bias: float
    """Mean of log L̂ − log L."""
    unexplained: float
    """The part of the bias that the fit's own error does not explain, in log L."""


def leave_largest_out(points: Points, *, pinned_e: float | None = None, seed: int = 0) -> list[HeldOut]:
    """Held-out errors in several ways: the largest fifth and third by FLOPs, the largest budget, the largest sizes.

    A way that leaves too few runs, or runs without a law, is passed over.
    """
    by_flops = np.argsort(points.flops, kind="stable")
    fifth, third = (by_flops[int((1 - share) * len(points)) :] for share in (0.2, 1 / 3))
    ways = {
        "the largest fifth by FLOPs": fifth,
        "the largest third by FLOPs": third,
        "within a factor of 2 of the most FLOPs": np.flatnonzero(points.flops >= points.flops.max() / 2),
        "the largest fifth by parameters": np.flatnonzero(points.parameters >= np.quantile(points.parameters, 0.8)),
    }
    found = [_held_out(points, way, chosen, pinned_e, seed) for way, chosen in ways.items()]
    return [one for one in found if one is not None]


def _held_out(points: Points, way: str, chosen: np.ndarray, pinned_e: float | None, seed: int) -> HeldOut | None:
    kept = np.ones(len(points), dtype=bool)
    kept[chosen] = False
    rest, out = points[kept], points[chosen]
    if len(rest) < LEAST_POINTS or not len(out):
        return None
    theta, _, _ = best_valley(rest, pinned_e)
    try:
        refuse_bounds(theta, rest, pinned=pinned_e is not None)
    except InputError:
        return None
    law = ChinchillaLaw.of(out)
    error = law(theta[None])[0][0] - out.log_loss
    draws = bootstrap(rest, theta, 100, seed, pinned=pinned_e is not None)
    own = law(draws)[0].mean(axis=1).var() + error.var() / len(out)
    return HeldOut(
        way=way,
        runs=len(out),
        factor=float(out.flops.max() / rest.flops.max()),
        mape=float(np.abs(np.expm1(error)).mean()),
        bias=float(error.mean()),
        unexplained=float(np.sqrt(max(0.0, error.mean() ** 2 - own))),
    )


def profile_e(points: Points, fit: Fit, level: float = 0.95) -> dict[str, Any]:
    """The least objective over values of E, and the interval of E that a likelihood ratio gives.

    For an M-estimate 2·Δobjective·E[ψ']/E[ψ²] is χ² of one degree; E[ψ'] is counted in ±3δ about 0. A second grid looks
    closer where the first has found the interval.
    """
    from scipy.stats import chi2

    law, weights = ChinchillaLaw.of(points), np.ones((1, len(points)))
    residual = law(fit.theta[None])[0][0] - points.log_loss
    curvature = max(float((np.abs(residual) <= _WIDE).mean()) * DELTA / _WIDE, 1 / len(points))
    ratio = curvature / float((np.clip(residual, -DELTA, DELTA) ** 2).mean())
    ends = 0.5 * fit.E, min(1.3 * fit.E, 0.999 * float(points.loss.min()))
    values, objective = np.array([fit.E]), np.array([fit.objective])
    for _ in range(2):
        more = np.linspace(*ends, 41)
        starts = np.tile(fit.theta, (len(more), 1))
        starts[:, LOG_E] = np.log(more)
        found = descend(law, points.log_loss, starts, weights, (LOG_A, LOG_B, ALPHA, BETA)).objective
        order = np.argsort(np.append(values, more))
        values, objective = np.append(values, more)[order], np.append(objective, found)[order]
        inside = np.flatnonzero(2 * ratio * (objective - fit.objective) <= chi2.ppf(level, 1))
        first, last = int(inside[0]), int(inside[-1])
        ends = float(values[max(0, first - 1)]), float(values[min(len(values) - 1, last + 1)])
    return {
        "values": values.tolist(),
        "objective": objective.tolist(),
        "interval": [float(values[first]), float(values[last])],
        "open_below": first == 0,
        "open_above": last == len(values) - 1,
    }


def curvature_test(points: Points, fit: Fit, seed: int = 0) -> dict[str, Any]:
    """Whether terms that bend in log N and log D foretell runs left out better than power laws: ten-fold, paired.

    `gain` is the mean fall of Huber's loss of a held-out run, as a share of the straight law's, `p` that of no gain
    (one-sided). Also the curvatures γ and δ of the whole fit.
    """
    from scipy.stats import norm

    runs = len(points)
    folds = np.random.default_rng(seed).permutation(runs) % min(_FOLDS, runs)
    weights = (folds[None, :] != np.arange(folds.max() + 1)[:, None]).astype(np.float64)  # (folds, runs)
    straight, bent = ChinchillaLaw.of(points), CurvedLaw(points.log_n, points.log_d)
    begin = np.concatenate([fit.theta, np.zeros(2)])
    whole = descend(bent, points.log_loss, begin[None], np.ones((1, runs)))
    by_straight = descend(straight, points.log_loss, np.tile(fit.theta, (len(weights), 1)), weights).theta
    by_bent = descend(bent, points.log_loss, np.tile(begin, (len(weights), 1)), weights).theta
    losses = [_own_fold(huber(law(theta)[0] - points.log_loss), folds)
              for law, theta in ((straight, by_straight), (bent, by_bent))]  # fmt: skip
    gain = losses[0] - losses[1]
    error = float(gain.std(ddof=1) / np.sqrt(runs))
    return {
        "gain": float(gain.mean() / max(losses[0].mean(), 1e-300)),
        "p": float(norm.sf(gain.mean() / error)) if error > 0 else 1.0,
        "by_parameters": float(whole.theta[0, 5]),
        "by_tokens": float(whole.theta[0, 6]),
        "objective": float(whole.objective[0]),
    }


def _own_fold(losses: Floats, folds: np.ndarray) -> Floats:
    """Each run's loss by the fit that left it out, from (folds, runs)."""
    return np.asarray(losses[folds, np.arange(len(folds))])
