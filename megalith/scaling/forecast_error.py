"""How far a forecaster errs: the bootstrap draws of its law, the noise of a run, and its drift beyond its runs."""

from dataclasses import replace

import numpy as np

from megalith.errors import InputError
from megalith.laws.fitted import FittedForecaster
from megalith.scaling.approach_3 import bootstrap
from megalith.scaling.forecasters import Candidate, Choice, Forecaster, near_optimum
from megalith.scaling.isoflop import fit_approach_2, pooled_residuals
from megalith.scaling.points import Floats, Points, joined

_MAD_TO_DEVIATION = 1.4826  # of the normal distribution
_LEAST_DECADES = 0.1  # of a held-out distance: less says nothing of a drift
_ISOFLOP_RESAMPLES = 100  # each a fit of its own


def with_errors(choice: Choice, points: Points, *, resamples: int, seed: int) -> FittedForecaster:
    """The chosen forecaster, fitted to all runs, with its errors."""
    runs = choice.best.chosen(points)
    best = choice.best.fit_chosen(runs)
    near = _near(runs) if best.kind == "isoflop" else runs
    residual = best.log_loss(near) - near.log_loss
    freedom = max(1, len(near) - len(best.theta))
    noise = _MAD_TO_DEVIATION * float(np.median(np.abs(residual))) * float(np.sqrt(len(near) / freedom))
    decades = max(_LEAST_DECADES, float(np.log10(choice.factor)))
    draws = (
        bootstrap(runs, best.theta, resamples, seed)
        if best.kind == "chinchilla"
        else _isoflop_draws(choice.best, best, runs, min(resamples, _ISOFLOP_RESAMPLES), seed)
    )
    unexplained = choice.bias**2 - noise**2 / max(1, choice.held_out)
    return FittedForecaster(
        name=best.name,
        kind=best.kind,
        theta=tuple(best.theta.tolist()),
        centre_flops=best.centre_flops,
        draws=tuple(map(tuple, draws.tolist())),
        noise=noise,
        misfit_per_decade=float(np.sqrt(max(0.0, unexplained))) / decades,
        within=best.within if best.kind == "isoflop" else None,
        beside=None if best.beside is None else tuple(best.beside.tolist()),
    )


def _near(runs: Points) -> Points:
    try:
        return near_optimum(runs)
    except InputError:
        return runs


def _isoflop_draws(candidate: Candidate, best: Forecaster, runs: Points, resamples: int, seed: int) -> Floats:
    """θ of the forecaster on runs whose losses are the parabolas' with residuals of all budgets drawn anew."""
    found = fit_approach_2(runs, resamples=50)
    residuals = pooled_residuals(found.budgets)
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        shaken = []
        for one in found.budgets:
            about = one.runs.log_loss.copy()
            about[one.near] = one.powers @ one.parabola
            losses = np.exp(about + random.choice(residuals, len(about)))
            shaken.append(replace(one.runs, loss=losses, flops=np.full(len(about), one.flops)))
        try:
            again = candidate.fit_chosen(joined(shaken))
        except InputError:  # a draw without a minimum in three budgets
            continue
        theta = again.theta.copy()
        theta[3] -= theta[4] * np.log(again.centre_flops / best.centre_flops)  # all about one C̄
        theta[1] += np.exp(theta[2]) * np.log(again.centre_flops / best.centre_flops)
        draws.append(theta)
    return np.array(draws).reshape(-1, len(best.theta))
