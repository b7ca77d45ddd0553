"""How often the intervals of the scaling laws hold the truth: planted laws, 200 draws of noise, three approaches.

`python -m benchmarks.scaling_coverage` writes benchmarks/results/scaling_coverage.json. Approaches 2 and 3 fit six
IsoFLOP budgets of eight sizes, approach 1 twelve sizes of four lengths; the noise of log L is 0.3 %, that of seeds.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from megalith.scaling import Points, fit_approach_1, fit_approach_2, fit_approach_3
from megalith.scaling.approach_3 import constants_shift, figures, widened
from megalith.scaling.envelope import curves_of
from megalith.scaling.power_law import quantiles
from tests.scaling.planted import A_OF_C, LAW, on_budgets, on_lengths

LEVEL = 0.90
NOISE = 0.003
Intervals = dict[str, tuple[float, float]]
TRUTH = {"a": A_OF_C, "b": 1 - A_OF_C, "alpha": LAW.alpha, "beta": LAW.beta, "E": LAW.E}
RESULT = Path(__file__).parent / "results" / "scaling_coverage.json"


def coverage(approach: str, draws: int, resamples: int, noise: float = NOISE) -> dict[str, float]:
    """The share of draws whose interval holds the truth, by constant."""
    intervals = [APPROACHES[approach](seed, noise, resamples) for seed in range(draws)]
    return {
        name: float(np.mean([low <= TRUTH[name] <= high for low, high in (one[name] for one in intervals)]))
        for name in intervals[0]
    }


def _first(seed: int, noise: float, resamples: int) -> Intervals:
    found = fit_approach_1(curves_of(on_lengths(seed, noise)), resamples=resamples)
    return {
        "a": quantiles(found.parameters.exponents, LEVEL),
        "b": quantiles(found.tokens.exponents, LEVEL),
    }


def _second(seed: int, noise: float, resamples: int) -> Intervals:
    found = fit_approach_2(on_budgets(seed, noise), resamples=resamples)
    return {
        "a": quantiles(found.parameters.exponents, LEVEL),
        "b": quantiles(found.tokens.exponents, LEVEL),
    }


def _third(seed: int, noise: float, resamples: int) -> Intervals:
    points: Points = on_budgets(seed, noise)
    found = fit_approach_3(points, resamples=resamples, lack_of_fit=False)
    shifts = constants_shift(points, found.theta, found.draws, seed, pinned=False)
    intervals = widened(figures(found.theta[None]), figures(found.draws), shifts, LEVEL)
    return {name: intervals[name] for name in ("a", "alpha", "beta", "E")}


APPROACHES: dict[str, Callable[[int, float, int], Intervals]] = {
    "approach 1": _first,
    "approach 2": _second,
    "approach 3": _third,
}


def main() -> None:
    start = time.process_time()
    found = {
        approach: {f"noise {noise:g}": coverage(approach, 200, 400, noise) for noise in (0.001, NOISE)}
        for approach in APPROACHES
    }
    told = {"level": LEVEL, "draws": 200, "coverage": found, "cpu_seconds": round(time.process_time() - start, 1)}
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    json.dump(told, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
