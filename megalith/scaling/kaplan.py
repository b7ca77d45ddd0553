"""Kaplan's law (2001.08361, equation 1.5) fitted to runs: L = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D. It has no floor E."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN
from megalith.scaling.approach_3 import LEAST_POINTS
from megalith.scaling.huber import descend
from megalith.scaling.parametric import KaplanLaw
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import quantiles

_STARTS = np.array(list(itertools.product((20.0, 30.0, 40.0), (20.0, 30.0, 40.0), (0.05, 0.2), (0.05, 0.2))))
# log N_c, log D_c, α_N, α_D; the paper's are 32.1, 33.4, 0.076, 0.103


@dataclass(frozen=True)
class KaplanFit:
    """Kaplan's constants and the optimum that follows from them at C = 6·N·D."""

    theta: Floats
    """(log N_c, log D_c, α_N, α_D)."""
    objective: float
    draws: Floats
    """(resamples, 4)"""

    def loss(self, parameters: Floats, tokens: Floats) -> Floats:
        return np.asarray(np.exp(KaplanLaw(np.log(parameters), np.log(tokens))(self.theta[None])[0][0]))

    def optimal_parameters(self, flops: Floats) -> Floats:
        """N that minimises the law along N·D = C/6: N^(r+1) = r·N_c^r·C/(6·D_c), r = α_N/α_D."""
        log_nc, log_dc, alpha_n, alpha_d = self.theta
        ratio = alpha_n / alpha_d
        spent = np.log(np.asarray(flops) / FLOPS_PER_PARAMETER_AND_TOKEN)
        return np.asarray(np.exp((np.log(ratio) + ratio * log_nc + spent - log_dc) / (ratio + 1)))

    def facts(self, level: float = 0.95) -> dict[str, Any]:
        """The figures for `--json`."""
        a = _exponent(self.theta[None])[0]
        return {
            "N_c": float(np.exp(self.theta[0])), "D_c": float(np.exp(self.theta[1])),
            "alpha_N": float(self.theta[2]), "alpha_D": float(self.theta[3]), "objective": self.objective,
            "a": {"exponent": float(a), "interval": list(quantiles(_exponent(self.draws), level))},
            "path": {"exponent": float(a), "scale": float(self.optimal_parameters(np.array(1.0)))},
        }  # fmt: skip


def fit_kaplan(points: Points, *, resamples: int = 200, seed: int = 0) -> KaplanFit:
    """Fit Kaplan's law by the objective of approach 3. Raises InputError where the loss does not fall with N and D."""
    if len(points) < LEAST_POINTS:
        raise InputError(f"{len(points)} runs are too few to fit four constants.", mend=f"Use {LEAST_POINTS} or more.")
    law, runs = KaplanLaw(points.log_n, points.log_d), len(points)
    ends = descend(law, points.log_loss, _STARTS, np.ones((1, runs)))
    best = int(ends.objective.argmin())
    theta = ends.theta[best]
    if min(theta[2:]) <= 0:
        raise InputError(
            "the loss of these runs does not fall with both parameters and tokens, as Kaplan's law has it."
        )
    weights = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), resamples).astype(np.float64)
    draws = descend(law, points.log_loss, np.tile(theta, (resamples, 1)), weights).theta
    return KaplanFit(theta, float(ends.objective[best]), draws)


def _exponent(theta: Floats) -> Floats:
    """a in N ∝ C^a at the optimum: α_D/(α_N + α_D)."""
    return np.asarray(theta[:, 3] / (theta[:, 2] + theta[:, 3]))
