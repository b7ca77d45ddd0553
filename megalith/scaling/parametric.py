"""Laws of the loss as functions of their constants, with gradients: Chinchilla's, with curvature, and Kaplan's.

Each works on log L, as a log-sum-exp of its terms, so that no start overflows.
"""

from dataclasses import dataclass

import numpy as np

from megalith.scaling.huber import Pullback
from megalith.scaling.points import Floats, Points

LOG_A, LOG_B, LOG_E, ALPHA, BETA, BEND_N, BEND_D = range(7)
"""Places of the constants in θ of Chinchilla's law; the last two are of the curved one alone."""


@dataclass(frozen=True)
class ChinchillaLaw:
    """L = E + A/N^α + B/D^β; θ = (log A, log B, log E, α, β)."""

    log_n: Floats
    log_d: Floats

    @classmethod
    def of(cls, points: Points) -> "ChinchillaLaw":
        return cls(points.log_n, points.log_d)

    def __call__(self, theta: Floats) -> tuple[Floats, Pullback]:
        log_sum, by_n, by_d, rest = _sum_of_terms(
            theta[:, LOG_A, None] - theta[:, ALPHA, None] * self.log_n,
            theta[:, LOG_B, None] - theta[:, BETA, None] * self.log_d,
            theta[:, LOG_E, None],
        )

        def pullback(slope: Floats) -> Floats:
            to_n, to_d = slope * by_n, slope * by_d
            columns = (
                to_n.sum(axis=1), to_d.sum(axis=1), (slope * rest).sum(axis=1), -(to_n @ self.log_n),
                -(to_d @ self.log_d),
            )  # fmt: skip
            return np.stack(columns, axis=1)

        return log_sum, pullback


@dataclass(frozen=True)
class CurvedLaw:
    """Chinchilla's law whose terms bend: log of A's term is log A − α·x + γ·(x − x̄)², of B's likewise with δ.

    θ = (log A, log B, log E, α, β, γ, δ), x = log N and x̄ its mean over the runs; γ = δ = 0 is Chinchilla's law.
    """

    log_n: Floats
    log_d: Floats

    def __call__(self, theta: Floats) -> tuple[Floats, Pullback]:
        bend_n, bend_d = (self.log_n - self.log_n.mean()) ** 2, (self.log_d - self.log_d.mean()) ** 2
        log_sum, by_n, by_d, rest = _sum_of_terms(
            theta[:, LOG_A, None] - theta[:, ALPHA, None] * self.log_n + theta[:, BEND_N, None] * bend_n,
            theta[:, LOG_B, None] - theta[:, BETA, None] * self.log_d + theta[:, BEND_D, None] * bend_d,
            theta[:, LOG_E, None],
        )

        def pullback(slope: Floats) -> Floats:
            to_n, to_d = slope * by_n, slope * by_d
            columns = (
                to_n.sum(axis=1), to_d.sum(axis=1), (slope * rest).sum(axis=1), -(to_n @ self.log_n),
                -(to_d @ self.log_d), to_n @ bend_n, to_d @ bend_d,
            )  # fmt: skip
            return np.stack(columns, axis=1)

        return log_sum, pullback


@dataclass(frozen=True)
class KaplanLaw:
    """L = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D (2001.08361, equation 1.5); θ = (log N_c, log D_c, α_N, α_D)."""

    log_n: Floats
    log_d: Floats

    def __call__(self, theta: Floats) -> tuple[Floats, Pullback]:
        log_nc, log_dc, alpha_n, alpha_d = (theta[:, place, None] for place in range(4))
        ratio = alpha_n / alpha_d
        by_size, by_tokens = ratio * (log_nc - self.log_n), log_dc - self.log_d
        log_sum = np.logaddexp(by_size, by_tokens)
        share = np.exp(by_size - log_sum)

        def pullback(slope: Floats) -> Floats:
            columns = (
                slope * share * alpha_n,
                slope * (1 - share) * alpha_d,
                slope * share * (log_nc - self.log_n),
                slope * (log_sum - share * by_size),
            )
            return np.stack([column.sum(axis=1) for column in columns], axis=1)

        return alpha_d * log_sum, pullback


def _sum_of_terms(by_n: Floats, by_d: Floats, rest: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """log(e^by_n + e^by_d + e^rest), and the three shares of the sum, all (batch, runs)."""
    top = np.maximum(np.maximum(by_n, by_d), rest)
    terms = [np.exp(term - top) for term in (by_n, by_d, rest)]
    total = terms[0] + terms[1] + terms[2]
    return top + np.log(total), terms[0] / total, terms[1] / total, terms[2] / total
