"""Published scaling laws as formulas: the compute-optimal parameters and tokens for a FLOP budget.

Chinchilla (2203.15556) measured its optimum by three approaches; a refit of its own figure (Besiroglu et al.,
2404.10102) corrects the third; Kaplan et al. (2001.08361) came first. Each law spends the budget as C = 6·N·D, as the
papers do. A law says nothing of the models and budgets outside those that it was fitted on: `smallest_parameters` says
where that begins.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from megalith.errors import InputError
from megalith.laws.formulas import FLOPS_PER_PARAMETER_AND_TOKEN, LossFormula, PowerLaw, RepeatedTokens

_MIDDLE_OF_BUDGETS = math.sqrt(6e18 * 3e21)  # FLOPs; approach 2's smallest and largest budget (§3.2)
_PETAFLOP_DAY = 8.64e19
_SMALLEST_CHINCHILLA = 44e6  # Table A9
_REFIT_ERROR = 1.96 * 0.020  # 95 % of a = β/(α + β), standard error 0.020 by 4,000 bootstraps (2404.10102)
# Bootstrapping that refit, the optimum is surest at 2e19 FLOPs, where the standard error of log N is 0.025.
_SUREST_FLOPS = 2e19
_LEAST_ERROR = 1.96 * 0.025


@dataclass(frozen=True)
class Law:
    """One published law: how it finds the optimum, and how sure it is."""

    name: str
    source: str
    formula: LossFormula | PowerLaw
    exponent_interval: tuple[float, float] | None
    """Interval of a in N ∝ C^a. None: the paper gives none."""
    surest_flops: float
    """The budget at which the optimum is known best."""
    smallest_parameters: float
    """The smallest model that it was fitted on."""
    intervals_from: str
    """Where its intervals come from, for print."""
    draws: tuple[LossFormula, ...] = ()
    """Bootstrap draws of a law that was fitted here; they take the exponent's interval's place."""
    vocab_size: int | None = None
    """The vocabulary of the runs it was fitted on, where that is known."""
    repeated: RepeatedTokens | None = None
    """The worth of repeated tokens by its own runs, where they say it."""

    def loss(self, parameters: float, tokens: float) -> float | None:
        """Nats per token, for the laws that have a formula of the loss."""
        return self.formula(parameters, tokens) if isinstance(self.formula, LossFormula) else None


@dataclass(frozen=True)
class Optimum:
    """The model and tokens that a law would train with a budget."""

    parameters: float
    tokens: float
    loss: float | None
    """Nats per token on the law's own text and tokenizer."""
    interval: tuple[float, float] | None
    """Interval of the parameters, from that of the exponent."""


def _through(exponent: float, *optima: tuple[float, float]) -> PowerLaw:
    """The power law of `exponent` through the geometric middle of (FLOPs, parameters) pairs."""
    offsets = [math.log(parameters) - exponent * math.log(flops) for flops, parameters in optima]
    return PowerLaw(exponent, math.exp(sum(offsets) / len(offsets)))


_TABLE_2 = "intervals from that of the exponent (2203.15556, Table 2); it has no formula of the loss"

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "chinchilla-1",
            "2203.15556, approach 1 (minimum over training curves): exponent of Table 2, optima of Table 3",
            _through(0.50, (1.92e19, 0.4e9), (1.21e20, 1e9), (1.23e22, 10e9), (5.76e23, 67e9), (3.85e24, 175e9)),
            (0.488, 0.502),  # Table 2: 10 % to 90 % of bootstraps
            _MIDDLE_OF_BUDGETS,
            _SMALLEST_CHINCHILLA,
            _TABLE_2,
        ),
        Law(
            "chinchilla-2",
            "2203.15556, approach 2 (IsoFLOP parabolas): exponent of Table 2, optima of Table A3",
            _through(0.49, (1.84e19, 0.4e9), (1.20e20, 1e9), (1.32e22, 10e9), (6.88e23, 67e9), (4.54e24, 175e9)),
            (0.462, 0.534),  # Table 2: 10 % to 90 % of bootstraps
            _MIDDLE_OF_BUDGETS,
            _SMALLEST_CHINCHILLA,
            _TABLE_2,
        ),
        Law(
            "chinchilla-3",
            "2203.15556, approach 3, equation 10 as printed; interval by 2404.10102, since the paper's own is "
            "implausibly narrow",
            LossFormula(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
            (0.28 / 0.62 - _REFIT_ERROR, 0.28 / 0.62 + _REFIT_ERROR),
            _SUREST_FLOPS,
            _SMALLEST_CHINCHILLA,
            "intervals from the standard error of the exponent by 2404.10102; of the loss none is published",
        ),
        Law(
            "chinchilla-refit",
            "2404.10102, a refit of 240 points of Chinchilla's Figure 4",
            LossFormula(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
            (0.3658 / 0.7136 - _REFIT_ERROR, 0.3658 / 0.7136 + _REFIT_ERROR),
            _SUREST_FLOPS,
            _SMALLEST_CHINCHILLA,
            "intervals from the exponent's standard error (2404.10102), and 600 bootstraps of its points",
        ),
        Law(
            "kaplan",
            "2001.08361, Table 6: N = 1.3e9 · (PF-days)^0.73, parameters without embeddings; tokens from C = 6·N·D",
            PowerLaw(0.73, 1.3e9 / _PETAFLOP_DAY**0.73),
            None,
            _PETAFLOP_DAY,
            768,  # §2.1
            "no interval is published",
        ),
    )
}


def law_named(name: str) -> Law:
    """The published law of that name, or the fitted one in the file NAME.json.

    Raises InputError with the names there are, and for a file that does not hold a law.
    """
    if name.endswith(".json"):
        from megalith.laws.fitted import read_law

        return read_law(Path(name))
    if name not in LAWS:
        raise InputError(
            f"law {name!r} is not known.",
            mend=f"Laws: {', '.join(LAWS)}; or the .json file of `megalith scaling fit --output`.",
        )
    return LAWS[name]


def compute_optimal(flops: float, law: str) -> Optimum:
    """The optimum of `law` for `flops`: parameters, tokens = C/6N, loss where it has a formula, and the interval.

    The interval is that of the exponent, turned about the budget at which the law is surest, and never narrower than
    there. For the refit at Chinchilla's budget this gives 48B to 108B, where 4,000 bootstraps give 52B to 112B.
    """
    chosen = law_named(law)
    parameters = chosen.formula.optimal_parameters(flops)
    tokens = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters)
    return Optimum(parameters, tokens, chosen.loss(parameters, tokens), _interval(chosen, parameters, flops))


def _interval(law: Law, parameters: float, flops: float) -> tuple[float, float] | None:
    if law.draws:
        import numpy as np

        low, high = np.quantile([draw.optimal_parameters(flops) for draw in law.draws], (0.025, 0.975))
        return float(low), float(high)
    if law.exponent_interval is None:
        return None
    distance = math.log(flops / law.surest_flops)
    turns = sorted((end - _exponent(law.formula)) * distance for end in law.exponent_interval)
    below, above = (math.hypot(turn, _LEAST_ERROR) for turn in turns)
    return parameters * math.exp(-below), parameters * math.exp(above)


def _exponent(formula: LossFormula | PowerLaw) -> float:
    """a in N ∝ C^a."""
    if isinstance(formula, PowerLaw):
        return formula.exponent
    return formula.beta / (formula.alpha + formula.beta)
