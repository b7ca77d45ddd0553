"""Chinchilla's approach 2 (2203.15556 §3.2): IsoFLOP parabolas in log N, then power laws through their minima.

At each budget a parabola in log N is fitted to log L of the runs around the lowest, and its vertex is the optimal N. A
parabola is a good picture near the minimum alone, so runs far above it are left out. A minimum at the edge of the sizes
is no minimum: such a budget is left out and said, and with fewer than three others the fit is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import LEAST_BUDGETS, PowerLawFit, fit_power_law, quantiles

SAME_BUDGET = 1.15  # FLOPs within this factor of a budget belong to it
LEAST_SIZES = 4  # a parabola, and something left to judge it by
LEAST_SPAN = 4  # the largest size over the smallest: within less, noise hides the parabola
_NEAR = 1.05  # losses within this factor of the lowest are near enough for a parabola
_SIGNIFICANT = 1.645
_WANTED = 7  # sizes around the minimum, where there are so many


@dataclass(frozen=True)
class IsoFlop:
    """One budget: its runs, the parabola through those near the minimum, and the minimum."""

    flops: float
    runs: Points
    """Their losses are taken to the very budget along the slope of all runs' losses."""
    near: np.ndarray
    """Which of the runs the parabola is fitted to."""
    origin: float
    """log N of the lowest run, from which the parabola counts x."""
    parabola: Floats
    """log L = c2·x² + c1·x + c0."""

    @property
    def vertex(self) -> float:
        """log N at the minimum."""
        return self.origin - float(self.parabola[1] / (2 * self.parabola[0]))

    @property
    def parameters(self) -> float:
        return float(np.exp(self.vertex))

    @property
    def loss(self) -> float:
        return float(np.exp(np.polyval(self.parabola, self.vertex - self.origin)))

    @property
    def powers(self) -> Floats:
        """x², x and 1 of the runs near the minimum."""
        across = self.runs.log_n[self.near] - self.origin
        return np.stack([across**2, across, np.ones_like(across)], axis=1)

    @property
    def residual(self) -> Floats:
        """log L of the runs near the minimum, less the parabola."""
        return np.asarray(self.runs.log_loss[self.near] - self.powers @ self.parabola)


@dataclass(frozen=True)
class Approach2:
    """Power laws through the minima of IsoFLOP curves."""

    budgets: tuple[IsoFlop, ...]
    draws: Floats
    """Bootstrap draws of log N at the minima; (draws, budgets)."""
    parameters: PowerLawFit
    tokens: PowerLawFit
    left_out: tuple[str, ...]
    """Why a budget was left out, one sentence each."""
    noise: float
    """Standard deviation of log L about the parabolas."""

    def facts(self, level: float = 0.95) -> dict[str, Any]:
        """The figures for `--json`."""
        ends = [[float(np.exp(end)) for end in quantiles(column, level)] for column in self.draws.T]
        return {
            "a": self.parameters.facts(level),
            "b": self.tokens.facts(level),
            "noise": self.noise,
            "left_out": list(self.left_out),
            "budgets": [
                {
                    "flops": one.flops, "parameters": one.parameters, "interval": interval,
                    "tokens": one.flops / FLOPS_PER_PARAMETER_AND_TOKEN / one.parameters, "loss": one.loss,
                    "runs": len(one.runs), "near": int(one.near.sum()), "origin": one.origin,
                    "parabola": one.parabola.tolist(),
                }
                for one, interval in zip(self.budgets, ends, strict=True)
            ],
        }  # fmt: skip


def fit_approach_2(points: Points, *, resamples: int = 1000, seed: int = 0) -> Approach2:
    """Fit approach 2. Raises InputError where fewer than three budgets have a minimum within their sizes."""
    slope = _slope_over_flops(points)
    groups = isoflop_groups(points)
    alone = len(points) - sum(map(len, groups))
    budgets, left_out = [], [f"{alone} runs of no budget with {LEAST_SIZES} sizes"] if alone else []
    for chosen in groups:
        flops = float(np.exp(np.log(points.flops[chosen]).mean()))
        runs = replace(points[chosen], loss=points.loss[chosen] * (flops / points.flops[chosen]) ** slope[chosen])
        why = _unfit(runs)
        if why is None:
            budgets.append(_fitted(flops, runs))
        else:
            left_out.append(f"{flops:.3g} FLOPs: {why}")
    if len(budgets) < LEAST_BUDGETS:
        told = f" Left out: {'; '.join(left_out)}." if left_out else ""
        raise InputError(
            f"IsoFLOP budgets with a minimum within their sizes: {len(budgets)}, and {LEAST_BUDGETS} are needed.{told}",
            mend=f"Use {LEAST_SIZES} or more sizes at each budget, some smaller and some larger than the best.",
        )
    draws = _draws(budgets, resamples, seed)
    at = np.array([one.flops for one in budgets])
    sizes = np.array([one.parameters for one in budgets])
    per_size = at / FLOPS_PER_PARAMETER_AND_TOKEN
    shape = shape_misfit(budgets, seed)
    return Approach2(
        budgets=tuple(budgets),
        draws=draws,
        parameters=fit_power_law(at, sizes, draws, shape=shape, seed=seed),
        tokens=fit_power_law(at, per_size / sizes, np.log(per_size) - draws, shape=shape, seed=seed),
        left_out=tuple(left_out),
        noise=_noise(budgets),
    )


def isoflop_groups(points: Points) -> list[np.ndarray]:
    """The runs of each budget, from the smallest: the densest place of FLOPs first, each with those within 15 %."""
    reach = np.log(SAME_BUDGET)
    log_c = np.log(points.flops)
    free = np.ones(len(points), dtype=bool)
    groups = []
    while free.any():
        near = (np.abs(log_c[:, None] - log_c[None, :]) <= reach) & free[None, :]
        centre = int(np.where(free, near.sum(axis=1), 0).argmax())
        chosen = free & (np.abs(log_c - np.median(log_c[near[centre]])) <= reach)
        if len(np.unique(points.parameters[chosen])) < LEAST_SIZES:
            break
        groups.append(np.flatnonzero(chosen))
        free &= ~chosen
    return sorted(groups, key=lambda chosen: float(log_c[chosen].mean()))


def _slope_over_flops(points: Points) -> Floats:
    """∂ log L/∂ log C of each run at its N, by a quadratic surface through all runs."""
    x, c = points.log_n - points.log_n.mean(), np.log(points.flops / np.exp(np.log(points.flops).mean()))
    surface = np.stack([np.ones_like(x), x, c, x * x, x * c, c * c], axis=1)
    _, _, by_c, _, by_both, by_square = np.linalg.lstsq(surface, points.log_loss, rcond=None)[0]
    return np.asarray(by_c + by_both * x + 2 * by_square * c)


def _unfit(runs: Points) -> str | None:
    """Why these runs of one budget show no minimum; None where they do."""
    sizes = np.unique(runs.parameters)
    best = float(runs.parameters[runs.loss.argmin()])
    if len(sizes) < LEAST_SIZES:
        return f"{len(sizes)} sizes, and {LEAST_SIZES} are needed"
    if sizes[-1] < LEAST_SPAN * sizes[0]:
        return f"its sizes are within a factor of {sizes[-1] / sizes[0]:.2g}, and {LEAST_SPAN} is needed"
    if best in (sizes[0], sizes[-1]):
        return f"the minimum is at the edge, the {'smallest' if best == sizes[0] else 'largest'} size ({best:.3g})"
    return None


def _fitted(flops: float, runs: Points) -> IsoFlop:
    near = _near_minimum(runs)
    origin = float(runs.log_n[runs.loss.argmin()])
    return IsoFlop(flops, runs, near, origin, np.polyfit(runs.log_n[near] - origin, runs.log_loss[near], 2))


def _near_minimum(runs: Points) -> np.ndarray:
    """The runs of the sizes near the minimum."""
    sizes, which = np.unique(runs.parameters, return_inverse=True)
    low, high = window(np.array([runs.loss[which == place].min() for place in range(len(sizes))]))
    return np.asarray((which >= low) & (which <= high))


def window(losses: Floats) -> tuple[int, int]:
    """The first and last of the sizes, in order, whose loss is near the lowest: seven, where there are so many."""
    best = int(losses.argmin())
    low, high = best - 1, best + 1  # a neighbour on either side, then whichever is lower
    while high - low + 1 < len(losses):
        below = losses[low - 1] if low > 0 else np.inf
        above = losses[high + 1] if high < len(losses) - 1 else np.inf
        if min(below, above) > _NEAR * losses[best] and high - low + 1 >= _WANTED:
            break
        low, high = (low - 1, high) if below <= above else (low, high + 1)
    return low, high


def vertices(x: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """The vertices of parabolas through (x, each row of `heights`), and the heights there.

    A vertex beyond the ends of `x` is taken at that end, and a row without a minimum at the end towards which it falls.
    """
    origin = x.mean()
    solve = np.linalg.pinv(np.stack([(x - origin) ** 2, x - origin, np.ones_like(x)], axis=1))
    c2, c1, c0 = (heights @ solve.T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(c2 > 0, -c1 / (2 * c2), np.where(c1 < 0, np.inf, -np.inf))
    found = np.clip(found, x.min() - origin, x.max() - origin)
    return origin + found, c2 * found**2 + c1 * found + c0


def _noise(budgets: Sequence[IsoFlop], degree: int = 2) -> float:
    """The standard deviation of log L about polynomials of that degree, one for each budget."""
    squares = freedom = 0.0
    for one in budgets:
        across, values = one.powers[:, 1], one.runs.log_loss[one.near]
        if len(np.unique(across)) > degree + 1:
            residual = values - np.polyval(np.polyfit(across, values, degree), across)
            squares += float(residual @ residual)
            freedom += len(across) - degree - 1
    return float(np.sqrt(squares / freedom)) if freedom else 0.0


def _draws(budgets: Sequence[IsoFlop], resamples: int, seed: int) -> Floats:
    """log N of each minimum (draws, budgets), from residuals of all budgets drawn anew about their parabolas."""
    residuals = pooled_residuals(budgets)
    random = np.random.default_rng(seed)
    columns = []
    for one in budgets:
        about = one.powers @ one.parabola
        shaken = about + random.choice(residuals, (resamples, len(about)))
        columns.append(vertices(one.runs.log_n[one.near], shaken)[0])
    return np.stack(columns, axis=1)


def pooled_residuals(budgets: Sequence[IsoFlop]) -> Floats:
    """The residuals of all budgets, each as large as the runs' noise (divided by √(1 − leverage))."""
    pool = []
    for one in budgets:
        leverage = np.einsum("ij,ji->i", one.powers, np.linalg.pinv(one.powers))
        pool.append(one.residual / np.sqrt(np.maximum(1 - leverage, 0.05)))
    residuals = np.concatenate(pool)
    return np.asarray(residuals - residuals.mean())


def shape_misfit(budgets: Sequence[IsoFlop], seed: int, resamples: int = 200) -> float:
    """How far the exponent moves where Akima's curve through the runs takes the parabola's place.

    Only as far as noise about the parabolas does not explain it: √(difference² − variance), 0 where it does. Published
    IsoFLOP exponents differ between the two by up to 0.03.
    """
    random = np.random.default_rng(seed)
    noise = _noise(budgets)
    residuals = pooled_residuals(budgets) * (_noise(budgets, 3) / noise if noise else 1.0)
    log_c = np.log([one.flops for one in budgets])
    across = log_c - log_c.mean()
    by_slope = across / (across @ across)
    found: Floats = np.zeros(len(budgets))
    null: Floats = np.zeros((resamples, len(budgets)))
    for place, one in enumerate(budgets):
        x, about = one.runs.log_n, one.runs.log_loss.copy()
        about[one.near] = one.powers @ one.parabola
        shaken = random.choice(residuals, (resamples, len(x)))
        curves = np.concatenate([one.runs.log_loss[None], about + shaken])
        difference = _akima_minima(x, curves) - vertices(x[one.near], curves[:, one.near])[0]
        found[place], null[:, place] = difference[0], difference[1:]
    moved, explained = float(found @ by_slope), np.asarray(null @ by_slope)
    beyond = abs(moved - float(explained.mean()))
    error = float(explained.std())
    return float(np.sqrt(beyond**2 - error**2)) if beyond > _SIGNIFICANT * error else 0.0


def _akima_minima(x: Floats, curves: Floats) -> Floats:
    """The x at which Akima's curve through (x, each row of `curves`) is lowest; runs of one size are averaged."""
    from scipy.interpolate import Akima1DInterpolator

    sizes, which = np.unique(x, return_inverse=True)
    means = np.stack([curves[:, which == place].mean(axis=1) for place in range(len(sizes))])  # (sizes, rows)
    grid = np.linspace(sizes[0], sizes[-1], 400)
    return np.asarray(grid[Akima1DInterpolator(sizes, means)(grid).argmin(axis=0)])
