"""Deviations from the compute-optimal model: tokens that must repeat, and inference that is to be paid for too."""

from typing import Any

from megalith.errors import RecipeError
from megalith.laws import (
    FLOPS_PER_PARAMETER_AND_TOKEN,
    INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN,
    PUBLISHED_REPETITION,
    LossFormula,
    law_named,
    loss_on_repeated,
    optimum_on_repeated,
    optimum_with_inference,
)


def with_deviations(
    budget: dict[str, Any], tokens_available: float | None, inference_tokens: float | None
) -> dict[str, Any]:
    """The budget with `repetition` and `inference` in the row of each law that has a formula of the loss.

    The others have None there. Raises RecipeError for numbers that are not positive.
    """
    for name, value in (("--tokens-available", tokens_available), ("--inference-tokens", inference_tokens)):
        if value is not None and not 0 < value < float("inf"):
            raise RecipeError(f"{value:g} tokens are none.", where=name, mend="Use a positive number.")
    rows = []
    for row in budget["laws"]:
        more: dict[str, Any] = {}
        flops = row.get("flops", budget.get("flops"))
        if tokens_available is not None:
            more["repetition"] = _repetition(row, flops, tokens_available)
        if inference_tokens is not None:
            more["inference"] = _inference(row, flops, inference_tokens)
        rows.append({**row, **more})
    return {**budget, "laws": rows}


def _repetition(row: dict[str, Any], flops: float, available: float) -> dict[str, Any] | None:
    """The best model for the FLOPs where there are no more tokens, and what the compute-optimal one would come to."""
    law = law_named(row["law"])
    if not isinstance(law.formula, LossFormula):
        return None
    stars = law.repeated or PUBLISHED_REPETITION
    best = optimum_on_repeated(law.formula, flops, available, stars)
    loss = loss_on_repeated(law.formula, row["parameters"], row["tokens"], available, stars)
    return {
        "tokens_available": available,
        "epochs": row["tokens"] / available,
        "loss": float(loss),
        "best": {
            "parameters": best.parameters, "tokens": best.tokens, "epochs": best.tokens / available, "loss": best.loss,
        },
        "pays_until": stars.half_worth_epochs,
        "source": "its own runs" if law.repeated else "2305.16264: R_D* 15.4, R_N* 5.3",
    }  # fmt: skip


def _inference(row: dict[str, Any], flops: float, served: float) -> dict[str, Any] | None:
    """The model of the compute-optimal loss that costs least with its inference, and what that saves."""
    law = law_named(row["law"])
    if not isinstance(law.formula, LossFormula):
        return None
    best = optimum_with_inference(law.formula, flops, served)
    training = FLOPS_PER_PARAMETER_AND_TOKEN * best.parameters * best.tokens
    serving = INFERENCE_FLOPS_PER_PARAMETER_AND_TOKEN * served
    whole, optimal = training + serving * best.parameters, flops + serving * row["parameters"]
    return {
        "inference_tokens": served,
        "parameters": best.parameters,
        "tokens": best.tokens,
        "loss": best.loss,
        "training_flops": training,
        "lifetime_flops": whole,
        "lifetime_flops_of_compute_optimal": optimal,
        "saving": 1 - whole / optimal,
    }
