"""Scaling laws, published and fitted here, as formulas: the optimum for a FLOP budget, and what deviates from it."""

from megalith.laws.formulas import (
    FLOPS_PER_PARAMETER_AND_TOKEN,
    INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN,
    PUBLISHED_REPETITION,
    LossFormula,
    PowerLaw,
    RepeatedTokens,
    Spending,
    effective,
    loss_on_repeated,
    optimum_on_repeated,
    optimum_with_inference,
)
from megalith.laws.published import LAWS, Law, Optimum, compute_optimal, law_named

__all__ = [
    "FLOPS_PER_PARAMETER_AND_TOKEN",
    "INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN",
    "LAWS",
    "PUBLISHED_REPETITION",
    "Law",
    "LossFormula",
    "Optimum",
    "PowerLaw",
    "RepeatedTokens",
    "Spending",
    "compute_optimal",
    "effective",
    "law_named",
    "loss_on_repeated",
    "optimum_on_repeated",
    "optimum_with_inference",
]
