"""`megalith scaling predict`: the loss of a run that has not been made, by a fitted law, with its interval.

The interval joins three parts in quadrature: the bootstrap draws of the law, the noise of a run, and the law's drift
for each factor of ten in FLOPs beyond its runs. Outside its runs the law says by how much.
"""

import math
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN
from megalith.laws.fitted import FittedLaw, formula_of
from megalith.scaling.forecasters import Forecaster, isoflop_log_loss
from megalith.scaling.parametric import ChinchillaLaw
from megalith.scaling.points import Floats, Points
from megalith.scaling.power_law import quantiles

FARTHEST = 1e4  # times the largest FLOPs of the runs, or below the smallest: farther no interval means anything
_MOST_BESIDE = 10.0  # of C over 6·N·D, or the other way: attention and logits of a very small model
_LITTLE = 1.05  # a factor outside the runs that needs no warning


def predict(
    law: FittedLaw,
    *,
    parameters: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """The loss at N and D, or N and C, or D and C; with C alone at the optimum. The keys are those of `--json`.

    What is not given follows from C = 6·N·D. With all three C is what was counted, attention and logits included.

    Raises InputError where too little or too much is given, and where the law would be read too far from its runs.
    """
    given = {"--parameters": parameters, "--tokens": tokens, "--flops": flops}
    named = [name for name, value in given.items() if value is not None]
    if len(named) < 2 and flops is None:
        raise InputError(
            "a run is two of parameters, tokens and FLOPs, all three, or FLOPs alone.",
            where=", ".join(named) or None,
            mend="Use --parameters N --tokens D, one of them with --flops C, or --flops C.",
        )
    for name, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{value:g} is not a positive number.", where=name)
    if parameters is not None and tokens is not None and flops is not None:
        _refuse_another_run(parameters, tokens, flops)
    n, d, c = _run(law, parameters, tokens, flops)
    beyond = {
        "parameters": _outside(n, law.fitted.parameters),
        "tokens": _outside(d, law.fitted.tokens),
        "flops": _outside(c, law.fitted.flops),
    }
    if not 1 / FARTHEST <= beyond["flops"] <= FARTHEST:
        raise InputError(
            f"{c:.3g} FLOPs are {_times(beyond['flops'])} the runs' ({_span(law.fitted.flops)}), and a law is not read "
            f"farther than {FARTHEST:g} times.",
            mend="Use runs nearer to it.",
        )
    point = Points(np.array([n]), np.array([d]), np.array([1.0]), np.array([c]))
    loss, interval, by = forecast(law, point, beyond["flops"], level)
    formula = law.formula
    return {
        "parameters": n,
        "tokens": d,
        "flops": c,
        "tokens_per_parameter": d / n,
        "loss": loss,
        "interval": list(interval),
        "level": level,
        "loss_unit": law.loss_unit,
        "forecaster": by,
        "by_approach_3": formula(n, d),
        "optimum": _optimum(law, c, level),
        "outside": beyond,
        "warnings": _warnings(law, beyond),
        "digest": law.digest,
    }


def forecast(law: FittedLaw, point: Points, beyond: float, level: float) -> tuple[float, tuple[float, float], str]:
    """The loss of one run, its interval, and the law it is by; `beyond` is the factor of its FLOPs outside the runs."""
    from scipy.stats import norm

    by = law.forecaster
    best = Forecaster(
        by.name, by.kind, np.array(by.theta), by.centre_flops, by.within or np.inf,
        None if by.beside is None else np.array(by.beside),
    )  # fmt: skip
    far = by.kind == "isoflop" and by.beside is not None and abs(float(best.off_optimum(point)[0])) > best.within
    centre = float(best.log_loss(point)[0])
    draws = _draws(law, point, centre, far=far)
    low, high = quantiles(draws, level) if len(draws) else (centre, centre)
    z = float(norm.ppf((1 + level) / 2))
    rest = math.hypot(z * by.noise, z * by.misfit_per_decade * abs(math.log10(beyond)))
    below, above = math.hypot(max(0.0, centre - low), rest), math.hypot(max(0.0, high - centre), rest)
    name = "approach 3, since the run is far from an IsoFLOP minimum" if far else by.name
    return math.exp(centre), (math.exp(centre - below), math.exp(centre + above)), name


def _draws(law: FittedLaw, point: Points, centre: float, *, far: bool) -> Floats:
    """log L of one run by each of the law's draws; far from a minimum those of approach 3, about `centre`."""
    by = law.forecaster
    if far:
        found = ChinchillaLaw.of(point)(np.array(law.draws))[0][:, 0]
        return np.asarray(found - np.median(found) + centre)
    theta = np.array(by.draws).reshape(-1, len(by.theta))
    if by.kind == "chinchilla":
        return np.asarray(ChinchillaLaw.of(point)(theta)[0][:, 0])
    return np.asarray(isoflop_log_loss(theta, point.log_n, np.log(point.flops / by.centre_flops))[:, 0])


def _refuse_another_run(parameters: float, tokens: float, flops: float) -> None:
    """Attention and logits are counted in C, and N may leave out a table; beyond that the three do not fit together."""
    ratio = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens)
    if not 1 / _MOST_BESIDE <= ratio <= _MOST_BESIDE:
        raise InputError(
            f"{flops:.3g} FLOPs are {ratio:.3g} times 6·N·D of {parameters:.3g} parameters and {tokens:.3g} tokens: "
            "these are not one run.",
            where="--flops",
            mend="Leave out one of the three, or correct it.",
        )


def _run(
    law: FittedLaw, parameters: float | None, tokens: float | None, flops: float | None
) -> tuple[float, float, float]:
    """N, D and C, of which two or three are given, or C alone: then N is the optimum's."""
    if parameters is not None and tokens is not None and flops is not None:
        return parameters, tokens, flops
    if parameters is None and tokens is None:
        assert flops is not None
        parameters = law.formula.optimal_parameters(flops)
    if flops is None:
        assert parameters is not None and tokens is not None
        return parameters, tokens, FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
    spent = flops / FLOPS_PER_PARAMETER_AND_TOKEN
    if parameters is not None:
        return parameters, spent / parameters, flops
    assert tokens is not None
    return spent / tokens, tokens, flops


def _optimum(law: FittedLaw, flops: float, level: float) -> dict[str, Any]:
    """The model and tokens that approach 3 would choose for these FLOPs."""
    formula = law.formula
    best = formula.optimal_parameters(flops)
    sizes = np.array([formula_of(draw).optimal_parameters(flops) for draw in law.draws])
    spent = flops / FLOPS_PER_PARAMETER_AND_TOKEN
    ends = list(quantiles(sizes, level)) if len(sizes) else None
    return {
        "parameters": best,
        "tokens": spent / best,
        "interval": ends,
        "tokens_interval": [spent / end for end in reversed(ends)] if ends else None,
        "loss": formula(best, spent / best),
    }


def _outside(value: float, span: tuple[float, float]) -> float:
    """1 inside; above the runs the factor, below them its inverse's factor (less than 1)."""
    low, high = span
    return value / high if value > high else value / low if value < low else 1.0


def _warnings(law: FittedLaw, beyond: dict[str, float]) -> list[str]:
    return [
        f"{name} are {_times(factor)} the runs' ({_span(getattr(law.fitted, name))})"
        for name, factor in beyond.items()
        if not 1 / _LITTLE <= factor <= _LITTLE
    ]


def _times(factor: float) -> str:
    return f"{factor:.3g} times the most of" if factor > 1 else f"1/{1 / factor:.3g} of the least of"


def _span(span: tuple[float, float]) -> str:
    return f"{span[0]:.3g} to {span[1]:.3g}"
