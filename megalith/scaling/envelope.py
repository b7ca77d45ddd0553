"""Chinchilla's approach 1 (2203.15556 §3.1): the lower envelope of training curves, and power laws along it.

Each size has a curve of log L over log C: through the final losses of its runs, or the smoothed training losses of one
run. At each of many FLOP counts the lowest curve is found among all sizes, and a parabola in log N through those near
it gives the optimal N between the sizes. Where the lowest is the smallest or largest size that reaches this
FLOP count, the count is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN
from megalith.scaling.isoflop import vertices, window
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import PowerLawFit, fit_line

LEAST_SIZES = 4
FLOP_COUNTS = 80
_LEAST_SHARE = 0.25  # of the FLOP counts between the first and the last curve that must have an optimum
_SMOOTHING = 0.05  # of log tokens: the standard deviation of the kernel, as a share of a curve's whole length


@dataclass(frozen=True)
class Curve:
    """The loss of one size over its training."""

    parameters: float
    tokens: Floats
    loss: Floats
    finished: bool = True
    """Each loss is a run's last, after its learning rate has fallen; else they are of one run under way."""


@dataclass(frozen=True)
class Approach1:
    """Power laws along the envelope."""

    flops: Floats
    optima: Floats
    """Optimal N at `flops`."""
    losses: Floats
    """The envelope there."""
    parameters: PowerLawFit
    tokens: PowerLawFit
    sizes: int
    at_edge: float
    """Share of the FLOP counts whose lowest curve is that of an edge size."""
    unfinished: bool
    """Whether the curves are of runs under way, whose learning rate had not fallen yet."""

    def facts(self, level: float = 0.95) -> dict[str, Any]:
        """The figures for `--json`."""
        return {
            "a": self.parameters.facts(level),
            "b": self.tokens.facts(level),
            "sizes": self.sizes,
            "flops": [float(self.flops[0]), float(self.flops[-1])],
            "at_edge": self.at_edge,
            "unfinished": self.unfinished,
            "envelope": [list(row) for row in zip(*(x[::10].tolist() for x in (self.flops, self.optima, self.losses)),
                                                  strict=True)],
        }  # fmt: skip


def curves_of(points: Points) -> list[Curve]:
    """A curve for each size that several runs of different lengths were made of; runs alike are averaged."""
    made = []
    for size in np.unique(points.parameters):
        runs = points[points.parameters == size]
        lengths, which = np.unique(runs.tokens, return_inverse=True)
        losses = np.array([np.exp(runs.log_loss[which == place].mean()) for place in range(len(lengths))])
        if len(lengths) > 1:
            made.append(Curve(float(size), lengths, losses))
    return made


def fit_approach_1(curves: Sequence[Curve], *, resamples: int = 1000, seed: int = 0) -> Approach1:
    """Fit approach 1. Raises InputError where too few sizes have curves, or their envelope has no optimum inside."""
    known = sorted(curves, key=lambda curve: curve.parameters)
    if len(known) < LEAST_SIZES:
        raise InputError(
            f"sizes with a curve: {len(known)}, and the envelope needs {LEAST_SIZES}.",
            mend="Use runs of several lengths of each size, or runs with their training curves.",
        )
    smoothed = [_smoothed(curve) for curve in known]
    log_n = np.log([curve.parameters for curve in known])
    ends = [(x + _per_token(n))[[0, -1]] for (x, _), n in zip(smoothed, log_n, strict=True)]
    grid = np.linspace(sorted(low for low, _ in ends)[1], sorted(high for _, high in ends)[-2], FLOP_COUNTS)
    matrices = [_onto(x + _per_token(n), grid) for (x, _), n in zip(smoothed, log_n, strict=True)]
    heights = [y for _, y in smoothed]
    near = _near_minimum(matrices, heights)
    best, lowest = _envelope(log_n, matrices, [y[None] for y in heights], near)
    inside = np.isfinite(best[0])
    if inside.mean() < _LEAST_SHARE:
        raise InputError(
            f"the envelope has an optimum within the sizes at {inside.mean():.0%} of the FLOP counts alone; elsewhere "
            "the lowest curve is that of the smallest or largest size.",
            mend="Use smaller and larger sizes.",
        )
    noise = _noise(smoothed, log_n, known)
    random = np.random.default_rng(seed)
    shaken = [
        y + noise * random.standard_normal((resamples, len(y) if curve.finished else 1))
        for curve, y in zip(known, heights, strict=True)
    ]
    draws, _ = _envelope(log_n, matrices, shaken, near)
    flops = np.exp(grid)
    sizes = fit_line(flops, best[0], draws)
    tokens = fit_line(flops, grid - _per_token(best[0]), grid - _per_token(draws))
    return Approach1(
        flops=flops[inside],
        optima=np.exp(best[0][inside]),
        losses=np.exp(lowest[0][inside]),
        parameters=sizes,
        tokens=tokens,
        sizes=len(known),
        at_edge=float(1 - inside.mean()),
        unfinished=not all(curve.finished for curve in known),
    )


def _per_token(log_n: Any) -> Any:
    """log FLOPs of a token."""
    return np.log(FLOPS_PER_PARAMETER_AND_TOKEN) + log_n


def _smoothed(curve: Curve) -> tuple[Floats, Floats]:
    """log D and log L; a training curve is first averaged by a Gaussian kernel over log tokens."""
    x, y = np.log(curve.tokens), np.log(curve.loss)
    if curve.finished:
        return x, y
    width = _SMOOTHING * (x[-1] - x[0])
    at = np.linspace(x[0] + width, x[-1], 60)
    weights = np.exp(-(((at[:, None] - x[None]) / width) ** 2) / 2) * np.gradient(x)
    return at, (weights @ y) / weights.sum(axis=1)


def _onto(x: Floats, grid: Floats) -> Floats:
    """The matrix that interpolates values at `x` onto `grid` by a spline in log-log; NaN beyond the curve's ends."""
    from scipy.interpolate import make_interp_spline

    matrix = make_interp_spline(x, np.eye(len(x)), k=min(3, len(x) - 1))(grid)
    matrix[(grid < x[0]) | (grid > x[-1])] = np.nan
    return np.asarray(matrix)


def _envelope(
    log_n: Floats, matrices: Sequence[Floats], heights: Sequence[Floats], sizes: Sequence[np.ndarray | None]
) -> tuple[Floats, Floats]:
    """log N of the optimum and log L there, (draws, FLOP counts); NaN where `sizes` has none near the minimum."""
    losses = np.stack([y @ matrix.T for y, matrix in zip(heights, matrices, strict=True)])  # (sizes, draws, counts)
    found = np.full((2, *losses.shape[1:]), np.nan)
    for place, near in enumerate(sizes):
        if near is not None:
            found[:, :, place] = vertices(log_n[near], losses[near, :, place].T)
    return found[0], found[1]


def _near_minimum(matrices: Sequence[Floats], heights: Sequence[Floats]) -> list[np.ndarray | None]:
    """The sizes near the lowest curve at each FLOP count; None where that is the first or last that reaches it."""
    losses = np.stack([matrix @ y for y, matrix in zip(heights, matrices, strict=True)])  # (sizes, counts)
    chosen: list[np.ndarray | None] = []
    for column in losses.T:
        reach = np.flatnonzero(np.isfinite(column))
        best = int(column[reach].argmin()) if len(reach) else 0
        if len(reach) < LEAST_SIZES or best in (0, len(reach) - 1):
            chosen.append(None)
            continue
        low, high = window(np.exp(column[reach]))
        chosen.append(reach[low : high + 1])
    return chosen


def _noise(smoothed: Sequence[tuple[Floats, Floats]], log_n: Floats, curves: Sequence[Curve]) -> float:
    """The runs' standard deviation of log L about a smooth surface in log N and log D.

    A cubic surface where there are runs enough, else a quadratic one; of a training curve its last point counts.
    """
    if all(curve.finished for curve in curves):
        d = np.concatenate([x for x, _ in smoothed])
        y = np.concatenate([y for _, y in smoothed])
        n = np.repeat(log_n, [len(x) for x, _ in smoothed])
    else:
        d, y, n = np.array([x[-1] for x, _ in smoothed]), np.array([y[-1] for _, y in smoothed]), log_n
    n, d = (n - n.mean()) / max(np.ptp(n), 1e-9), (d - d.mean()) / max(np.ptp(d), 1e-9)
    degree = next(degree for degree in (3, 2, 1, 0) if len(y) >= (degree + 1) * (degree + 2) // 2 + 2)
    surface = np.stack([n**i * d**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=1)
    residual = y - surface @ np.linalg.lstsq(surface, y, rcond=None)[0]
    return float(np.sqrt(residual @ residual / max(1, len(y) - np.linalg.matrix_rank(surface))))
