"""Power laws through optima that are themselves estimates: the exponent, its interval, and a test for curvature.

The optimum at each budget has bootstrap draws of its own. Where the optima scatter more about the line than their
variances explain, the rest is a variance between budgets (random effects), which widens every interval: the lack-of-fit
part.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.scaling.points import Floats

LEAST_BUDGETS = 3  # two constants, and something left to judge them by
_SIGNIFICANT = 0.10  # below it, scatter is not held for chance
_TRUST = 0.3  # of log x: errors below this give no more weight, since the curves' form errs as much
_LEAST_VARIANCE = 1e-10  # of log x, where runs have no noise
CURVED = 0.05  # significance at which a power law is held for bent


@dataclass(frozen=True)
class PowerLawFit:
    """log x = log x̄ + exponent · (log C − log C̄)."""

    exponent: float
    centre_flops: float
    """C̄, at which the law is surest."""
    centre: float
    """x there."""
    exponents: Floats
    """Bootstrap draws of the exponent."""
    log_centres: Floats
    """Bootstrap draws of log x̄."""
    scatter: float
    """Standard deviation of log x between budgets, beyond what the noise of the runs explains."""
    curvature: float | None
    """The second-order coefficient of log x over log C; None with fewer than four optima."""
    curvature_p: float | None
    """F test of that curvature against the power law nested in it."""

    def at(self, flops: float) -> float:
        """x at a budget."""
        return float(self.centre * (flops / self.centre_flops) ** self.exponent)

    def interval_at(self, flops: float, level: float = 0.95) -> tuple[float, float]:
        draws = self.log_centres + self.exponents * np.log(flops / self.centre_flops)
        low, high = np.exp(quantiles(draws, level))
        return float(low), float(high)

    def facts(self, level: float = 0.95) -> dict[str, Any]:
        """The figures for `--json`."""
        return {
            "exponent": self.exponent,
            "interval": list(quantiles(self.exponents, level)),
            "scale": self.at(1.0),
            "centre_flops": self.centre_flops,
            "centre": self.centre,
            "centre_interval": list(self.interval_at(self.centre_flops, level)),
            "scatter": self.scatter,
            "curvature": self.curvature,
            "curvature_p": self.curvature_p,
        }


def fit_power_law(flops: Floats, optima: Floats, draws: Floats, *, shape: float = 0.0, seed: int = 0) -> PowerLawFit:
    """The power law through `optima` (budgets,) with bootstrap `draws` of their logarithms (draws, budgets).

    `shape` is an error of the exponent by the form of the curves that gave the optima; it widens the draws.
    """
    log_c, log_x = np.log(flops), np.log(optima)
    errors = np.maximum(draws.var(axis=0), _LEAST_VARIANCE)
    scatter = _scatter(log_c, log_x, errors)
    weights = 1 / (errors + scatter + _TRUST**2)
    middle = np.average(log_c, weights=weights)
    across = log_c - middle
    solve = _line(across, weights)
    centre, exponent = solve @ log_x
    # the scatter is itself an estimate from so few optima: Student's t
    misfits = np.random.default_rng(seed).standard_t(len(log_c) - 2, draws.shape) * np.sqrt(scatter)
    sampled = (draws + misfits) @ solve.T  # (draws, 2)
    wider = 1.0 if not shape else float(np.hypot(sampled[:, 1].std(), shape) / max(sampled[:, 1].std(), 1e-12))
    residual = log_x - centre - exponent * across
    curvature, p = _curvature(across, log_x, weights, float((weights * residual**2).sum()))
    return PowerLawFit(
        exponent=float(exponent),
        centre_flops=float(np.exp(middle)),
        centre=float(np.exp(centre)),
        exponents=exponent + wider * (sampled[:, 1] - exponent),
        log_centres=sampled[:, 0],
        scatter=float(np.sqrt(scatter)),
        curvature=curvature,
        curvature_p=p,
    )


def fit_line(flops: Floats, log_x: Floats, draws: Floats) -> PowerLawFit:
    """The power law through a whole curve of optima, NaN where there is none, each FLOP count with equal weight.

    `draws` are the same curve of bootstrap samples, (draws, counts), each fitted where it has optima.
    """
    log_c = np.log(flops)
    known = np.isfinite(log_x)
    middle = float(log_c[known].mean())
    across = log_c - middle
    exponent, centre = np.polyfit(across[known], log_x[known], 1)
    there = np.isfinite(draws)
    count = np.maximum(there.sum(axis=1), 1)
    values = np.where(there, draws, 0.0)
    x = np.where(there, across, 0.0)
    mean_x, mean_y = x.sum(axis=1) / count, values.sum(axis=1) / count
    spread = np.maximum((x**2).sum(axis=1) - count * mean_x**2, 1e-12)
    slopes = ((x * values).sum(axis=1) - count * mean_x * mean_y) / spread
    return PowerLawFit(
        exponent=float(exponent),
        centre_flops=float(np.exp(middle)),
        centre=float(np.exp(centre)),
        exponents=slopes,
        log_centres=mean_y - slopes * mean_x,
        scatter=float((log_x[known] - centre - exponent * across[known]).std()),
        curvature=float(np.polyfit(across[known], log_x[known], 2)[0]),
        curvature_p=None,
    )


def _line(across: Floats, weights: Floats) -> Floats:
    """The matrix (2, budgets) that takes log x to the weighted line's height and slope."""
    line = np.stack([np.ones_like(across), across], axis=1)
    return np.asarray(np.linalg.solve(line.T @ (weights[:, None] * line), line.T * weights), dtype=np.float64)


def _scatter(log_c: Floats, log_x: Floats, errors: Floats) -> float:
    """The variance between budgets beyond that of their errors (DerSimonian and Laird's moments, about a line)."""
    from scipy.stats import chi2

    weights = 1 / errors
    across = log_c - np.average(log_c, weights=weights)
    line = np.stack([np.ones_like(across), across], axis=1)
    onto = line @ _line(across, weights)
    residual = log_x - onto @ log_x
    squares, freedom = float((weights * residual**2).sum()), len(log_c) - 2
    if chi2.sf(squares, freedom) > _SIGNIFICANT:
        return 0.0
    return max(0.0, (squares - freedom) / float(weights.sum() - np.einsum("i,ii->", weights, onto)))


def _curvature(across: Floats, log_x: Floats, weights: Floats, straight: float) -> tuple[float | None, float | None]:
    """The coefficient of (log C)², and the p of the F test against a line with the squares `straight`."""
    from scipy.stats import f

    freedom = len(across) - 3
    if freedom < 1:
        return None, None
    fitted = np.polyfit(across, log_x, 2, w=np.sqrt(weights))
    bent = float((weights * (log_x - np.polyval(fitted, across)) ** 2).sum())
    return float(fitted[0]), float(f.sf((straight - bent) / max(bent / freedom, 1e-300), 1, freedom))


def quantiles(draws: Floats, level: float) -> tuple[float, float]:
    """The central interval of that level."""
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
