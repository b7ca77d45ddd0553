"""Which law foretells larger runs: several forecasters, the best of which is chosen by runs that it has not seen.

A law that fits all runs need not foretell the next: far from the optimum, and at the smallest budgets, losses leave the
power laws. So approach 3 is fitted to all runs, to those near the optimum of their budget, and to the upper part of
these; and an IsoFLOP forecaster reads the lowest loss of a budget as E + K/C^γ, the loss beside it off the parabola and
far from the minimum off approach 3. Each is fitted without the largest budgets and judged by them; the one with the
least error is fitted to everything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling.approach_3 import LEAST_POINTS, best_valley, refuse_bounds
from megalith.scaling.huber import Pullback, descend
from megalith.scaling.isoflop import LEAST_SIZES, fit_approach_2, isoflop_groups
from megalith.scaling.parametric import ChinchillaLaw
from megalith.scaling.points import Floats, Points, joined
from megalith.scaling.power_law import LEAST_BUDGETS

_NEAR = 1.10  # of the lowest loss of a budget: near enough to its optimum to be judged by
_HELD_OUT_BUDGETS = 2
_HELD_OUT_SHARE = 0.2  # of the runs, where they form no budgets
_READ_WITHIN = 0.75  # quantile of the distances from the minima that the parabolas were fitted over
_RECENT = 4  # of the largest budgets: whose parabolas' curvature is foretold


@dataclass(frozen=True)
class Forecaster:
    """A way to foretell a loss, fitted."""

    name: str
    kind: str
    """chinchilla: θ is (log A, log B, log E, α, β). isoflop: (log E, log K, log γ, log N̄, a, curvature), about C̄."""
    theta: Floats
    centre_flops: float = 1.0
    within: float = np.inf
    """The largest |log N − log N_opt| at which a parabola is read."""
    beside: Floats | None = None
    """θ of the approach 3 that foretells beyond it."""

    def log_loss(self, points: Points) -> Floats:
        """log L of runs of given N, D and C; their losses are not read."""
        if self.kind == "chinchilla":
            return np.asarray(ChinchillaLaw.of(points)(self.theta[None])[0][0])
        found = self._by_parabolas(points)
        if self.beside is None:
            return found
        far = np.abs(self.off_optimum(points)) > self.within
        return np.where(far, ChinchillaLaw.of(points)(self.beside[None])[0][0], found)

    def off_optimum(self, points: Points) -> Floats:
        """log N − log N_opt at each run's FLOPs, of an IsoFLOP forecaster."""
        return np.asarray(points.log_n - self.theta[3] - self.theta[4] * np.log(points.flops / self.centre_flops))

    def _by_parabolas(self, points: Points) -> Floats:
        return np.asarray(isoflop_log_loss(self.theta[None], points.log_n, np.log(points.flops / self.centre_flops))[0])


@dataclass(frozen=True)
class Candidate:
    """A forecaster before it is fitted: its law, and the runs that it is fitted to."""

    name: str
    kind: str
    chosen: Callable[[Points], Points]

    def fit(self, points: Points) -> Forecaster:
        """Raises InputError where the chosen runs are too few, or follow no such law."""
        return self.fit_chosen(self.chosen(points))

    def fit_chosen(self, runs: Points) -> Forecaster:
        if self.kind == "isoflop":
            return fitted_isoflop(self.name, runs)
        return Forecaster(self.name, "chinchilla", _sound_valley(runs))


@dataclass(frozen=True)
class Choice:
    """The chosen forecaster, and the held-out error of each."""

    best: Candidate
    errors: dict[str, float]
    """Mean |relative error| of the held-out runs."""
    bias: float
    """Mean of log L̂ − log L of the chosen one."""
    held_out: int
    factor: float
    """The largest FLOPs held out over the largest fitted."""

    def facts(self) -> dict[str, Any]:
        """The figures for `--json`."""
        return {
            "forecaster": self.best.name,
            "held_out_mape": self.errors.get(self.best.name),
            "held_out_runs": self.held_out,
            "held_out_factor": self.factor,
            "errors": self.errors,
        }


def choose_forecaster(points: Points) -> Choice:
    """The candidate that foretells the largest budgets best from the others; approach 3 where none can be judged."""
    judged, rest = _largest(points)
    errors, biases = {}, {}
    for candidate in CANDIDATES if len(judged) else ():
        try:
            found = candidate.fit(points[rest]).log_loss(points[judged]) - points.log_loss[judged]
            candidate.fit(points)  # which it must be able to be, too
        except InputError:
            continue
        errors[candidate.name] = float(np.abs(np.expm1(found)).mean())
        biases[candidate.name] = float(found.mean())
    best = min(errors, key=lambda name: errors[name]) if errors else CANDIDATES[0].name
    return Choice(
        best=next(candidate for candidate in CANDIDATES if candidate.name == best),
        errors=errors,
        bias=biases.get(best, 0.0),
        held_out=len(judged),
        factor=float(points.flops[judged].max() / points.flops[rest].max()) if len(rest) and len(judged) else 1.0,
    )


def near_optimum(points: Points, factor: float = _NEAR) -> Points:
    """The runs whose loss is within `factor` of the lowest of their budget. Raises InputError without budgets."""
    groups = [group for group in isoflop_groups(points) if len(group) >= LEAST_SIZES]
    if len(groups) < LEAST_BUDGETS:
        raise InputError("these runs form no IsoFLOP budgets.")
    return points[np.concatenate([_near(points, group, factor) for group in groups])]


def isoflop_log_loss(theta: Floats, log_n: Floats, log_c: Floats) -> Floats:
    """(batch, runs): log(E + K/C^γ) + curvature·(log N − log N_opt)², C relative to C̄."""
    log_e, log_k, log_gamma, log_centre, a, curvature = (theta[:, place, None] for place in range(6))
    lowest = np.logaddexp(log_e, log_k - np.exp(log_gamma) * log_c)
    return np.asarray(lowest + curvature * (log_n - log_centre - a * log_c) ** 2)


def _largest(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """The runs that a forecaster is judged by, and those that it is fitted to: the two largest budgets, or a fifth."""
    groups = isoflop_groups(points)
    if len(groups) >= LEAST_BUDGETS + _HELD_OUT_BUDGETS:
        first = float(points.flops[groups[-_HELD_OUT_BUDGETS]].min())
        rest = np.flatnonzero(points.flops < first)
        judged = np.concatenate([_near(points, group, _NEAR) for group in groups[-_HELD_OUT_BUDGETS:]])
        return judged, rest
    order = np.argsort(points.flops, kind="stable")
    kept = max(LEAST_POINTS, int((1 - _HELD_OUT_SHARE) * len(points)))
    return order[kept:], order[:kept]


def _near(points: Points, group: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(group[points.loss[group] <= factor * points.loss[group].min()])


def _upper(points: Points, share: float) -> Points:
    """The runs in the upper part of the range of log FLOPs, without its lowest `share`."""
    log_c = np.log(points.flops)
    return points[log_c >= log_c.min() + share * np.ptp(log_c)]


def fitted_isoflop(name: str, runs: Points) -> Forecaster:
    """The IsoFLOP forecaster from approach 2's minima. Raises InputError where there are too few."""
    found = fit_approach_2(runs, resamples=50)
    flops = np.array([one.flops for one in found.budgets])
    losses = np.array([one.loss for one in found.budgets])
    centre = float(np.exp(np.log(flops).mean()))
    envelope = lowest_losses(flops / centre, losses)
    curvature = float(np.median([one.parabola[0] for one in found.budgets[-_RECENT:]]))
    sizes = found.parameters
    theta = np.array([*envelope, np.log(sizes.at(centre)), sizes.exponent, curvature])
    near = joined([one.runs[one.near] for one in found.budgets])
    within = float(np.quantile(np.abs(near.log_n - theta[3] - theta[4] * np.log(near.flops / centre)), _READ_WITHIN))
    return Forecaster(name, "isoflop", theta, centre, within, _sound_valley(runs))


def _sound_valley(runs: Points) -> Floats:
    """θ of approach 3. Raises InputError where the runs are too few or put it on a bound."""
    if len(runs) < LEAST_POINTS:
        raise InputError("too few runs.")
    theta, _, _ = best_valley(runs)
    refuse_bounds(theta, runs, pinned=False)
    return theta


def lowest_losses(relative_flops: Floats, losses: Floats) -> Floats:
    """(log E, log K, log γ) of L = E + K/C^γ through the lowest losses of budgets, by Huber's loss."""
    x, y = np.log(relative_flops), np.log(losses)

    def law(theta: Floats) -> tuple[Floats, Pullback]:
        log_e, log_k, log_gamma = (theta[:, place, None] for place in range(3))
        gamma = np.exp(log_gamma)
        falling = log_k - gamma * x
        total = np.logaddexp(log_e, falling)
        share = np.exp(falling - total)

        def pullback(slope: Floats) -> Floats:
            columns = slope * (1 - share), slope * share, -slope * share * gamma * x
            return np.stack([column.sum(axis=1) for column in columns], axis=1)

        return total, pullback

    middle = float(np.median(losses))
    starts = np.array([
        (np.log(part * middle), np.log((1 - part) * middle), np.log(gamma))
        for part in (0.3, 0.6, 0.9) for gamma in (0.05, 0.1, 0.2, 0.4)
    ])  # fmt: skip
    ends = descend(law, y, starts, np.ones((1, len(y))))
    found = ends.theta[int(ends.objective.argmin())]
    if not np.isfinite(found).all() or found[2] > np.log(2.0):
        raise InputError("the lowest losses of these budgets follow no power law.")
    return np.asarray(found)


_UPPER = 0.45  # of the range of log FLOPs is left out below
CANDIDATES = (
    Candidate("approach 3", "chinchilla", lambda points: points),
    Candidate("approach 3 on runs within 10 % of their budget's lowest", "chinchilla", near_optimum),
    Candidate(
        "approach 3 on those of the larger budgets", "chinchilla", lambda points: _upper(near_optimum(points), _UPPER)
    ),
    Candidate(
        "approach 3 on runs within 5 % of the lowest of the larger budgets",
        "chinchilla",
        lambda points: _upper(near_optimum(points, 1.05), 0.3),
    ),
    Candidate("IsoFLOP minima", "isoflop", lambda points: points),
    Candidate("IsoFLOP minima of the larger budgets", "isoflop", lambda points: _upper(points, _UPPER)),
)
