"""The formulas that scaling laws are made of, and what follows from them: the optimum, repeated tokens, inference."""

import math
from dataclasses import dataclass
from typing import Any

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""C = 6·N·D in training: forward 2, backward 4 (2001.08361 §2.1)."""
INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN = 2.0


@dataclass(frozen=True)
class LossFormula:
    """L(N, D) = E + A/N^α + B/D^β, in nats per token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __call__(self, parameters: float, tokens: float) -> float:
        return float(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    def optimal_parameters(self, flops: float) -> float:
        """N = G·(C/6)^(β/(α+β)), G = (αA/βB)^(1/(α+β)) (Chinchilla, equation 4)."""
        both = self.alpha + self.beta
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        return float(scale * (flops / FLOPS_PER_PARAMETER_AND_TOKEN) ** (self.beta / both))

    def parameters_for(self, tokens: float) -> float:
        """N whose compute-optimal tokens are `tokens`: αA/N^α = βB/D^β."""
        return float((self.alpha * self.A / (self.beta * self.B) * tokens**self.beta) ** (1 / self.alpha))

    def tokens_for(self, parameters: float, loss: float) -> float:
        """D at which a model of `parameters` reaches `loss`; infinite where it never does."""
        left = loss - self.E - self.A / parameters**self.alpha
        return float((self.B / left) ** (1 / self.beta)) if left > 0 else math.inf


@dataclass(frozen=True)
class PowerLaw:
    """N = scale · C^exponent, through published optima."""

    exponent: float
    scale: float

    def optimal_parameters(self, flops: float) -> float:
        return float(self.scale * flops**self.exponent)


@dataclass(frozen=True)
class RepeatedTokens:
    """R_D* and R_N* of the data-constrained law (2305.16264, equation 5)."""

    r_d: float
    r_n: float

    @property
    def half_worth_epochs(self) -> float:
        """Epochs at which one more token is worth half of a fresh one: 1 + R_D*·ln 2."""
        return 1 + self.r_d * math.log(2)


PUBLISHED_REPETITION = RepeatedTokens(r_d=15.387756, r_n=5.309743)  # 2305.16264 §6, C4


def effective(total: Any, unique: Any, star: Any) -> Any:
    """Fresh units that `total` units, of which `unique` are different, are worth: U·(1 + R*·(1 − e^(−(T/U − 1)/R*))).

    Numbers or arrays of numpy.
    """
    import numpy as np

    repeats = np.maximum(total / unique - 1, 0.0)
    return np.where(repeats > 0, unique * (1 + star * -np.expm1(-repeats / star)), np.minimum(total, unique))


@dataclass(frozen=True)
class Spending:
    """A model and the tokens that it is trained on, for a purpose beside the least training FLOPs."""

    parameters: float
    tokens: float
    loss: float


def loss_on_repeated(
    formula: LossFormula, parameters: Any, tokens: Any, available: float, stars: RepeatedTokens = PUBLISHED_REPETITION
) -> Any:
    """L of the data-constrained law, where `available` tokens are all there are; of numbers or arrays of numpy.

    Parameters beyond those that are optimal for the unique tokens are worth less too, where tokens repeat.
    """
    import numpy as np

    unique = np.minimum(tokens, available)
    fitting = (formula.alpha * formula.A / (formula.beta * formula.B) * unique**formula.beta) ** (1 / formula.alpha)
    worth = effective(parameters, np.minimum(parameters, fitting), stars.r_n)
    size = np.where(np.asarray(tokens) > available, worth, parameters)
    data = effective(tokens, unique, stars.r_d)
    return formula.E + formula.A / size**formula.alpha + formula.B / data**formula.beta


def optimum_on_repeated(
    formula: LossFormula, flops: float, available: float, stars: RepeatedTokens = PUBLISHED_REPETITION
) -> Spending:
    """The model with the least loss for `flops`, where `available` tokens are all there are and may be repeated."""
    import numpy as np

    sizes = formula.optimal_parameters(flops) * np.geomspace(1e-3, 1e3, 6001)
    tokens = flops / FLOPS_PER_PARAMETER_AND_TOKEN / sizes
    losses = loss_on_repeated(formula, sizes, tokens, available, stars)
    best = int(losses.argmin())
    return Spending(float(sizes[best]), float(tokens[best]), float(losses[best]))


def optimum_with_inference(formula: LossFormula, flops: float, inference_tokens: float) -> Spending:
    """The loss of the compute-optimal model for `flops`, at the least FLOPs of training and inference together.

    6·N·D + 2·N·D_inference over all N that reach this loss: smaller, trained longer (Sardana & Frankle, 2401.00448).
    """
    import numpy as np

    middle = formula.optimal_parameters(flops)
    loss = formula(middle, flops / FLOPS_PER_PARAMETER_AND_TOKEN / middle)
    sizes = middle * np.geomspace(1e-2, 1, 6001)
    tokens = np.array([formula.tokens_for(size, loss) for size in sizes])
    served = INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN * inference_tokens
    spent = sizes * (FLOPS_PER_PARAMETER_AND_TOKEN * tokens + served)
    best = int(np.nanargmin(spent))
    return Spending(float(sizes[best]), float(tokens[best]), loss)
