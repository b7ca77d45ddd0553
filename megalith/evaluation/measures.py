"""The measures of a task's per-item results, read from the results themselves.

A measure turns the results of one run into a score for each item whose mean is the run's score, or the logarithm of its
perplexity. Comparisons work on these scores alone, whatever the task.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from megalith.statistics import linear_scores

Result = Mapping[str, Any]
Scores = npt.NDArray[np.float64]

_LARGEST = 300.0  # nats beyond which exp overflows a double


@dataclass(frozen=True)
class Measure:
    """One metric of a task."""

    metric: str
    unit: Literal["share", "nats", "bits", "perplexity"]
    """The unit of the score: a share of one, a margin in nats, bits per byte, or a perplexity, whose item scores are in
    nats."""
    top: Callable[[Result], float]
    bottom: Callable[[Result], float] | None = None
    """With a denominator the score is Σ top / Σ bottom."""

    @property
    def higher_is_better(self) -> bool:
        return self.unit in ("share", "nats")

    def item_scores(self, results: Sequence[Result]) -> Scores:
        """One score for each item, whose mean is the run's score (perplexities: its logarithm)."""
        tops = [float(self.top(result)) for result in results]
        if self.bottom is None:
            return np.asarray(tops, dtype=np.float64)
        return linear_scores(tops, [float(self.bottom(result)) for result in results])

    def score(self, mean: float) -> float:
        """The run's score from the mean of its item scores."""
        return math.exp(min(mean, _LARGEST)) if self.unit == "perplexity" else mean

    def step(self, difference: float) -> float:
        """A difference of means of item scores as it is told: of perplexities, relative (B/A − 1)."""
        return math.expm1(min(difference, _LARGEST)) if self.unit == "perplexity" else difference

    def margin(self, points: float, relative: float) -> float | None:
        """The largest difference of means that counts as none; None where no margin is agreed on."""
        match self.unit:
            case "share":
                return points
            case "perplexity":
                return math.log1p(relative)
            case "bits":
                return math.log1p(relative) / math.log(2)
        return None


def measures_of(results: Sequence[Result]) -> list[Measure]:
    """The measures that all results of a run have figures for, the leading one first."""
    if not results:
        return []
    shared = [key for key in results[0] if all(_is_figure(result.get(key)) for result in results)]
    if "nats" in shared:
        return [
            *(_per(unit) for unit in ("word", "token", "byte") if _counts(results, f"{unit}s")),
            *([_BITS] if _counts(results, "bytes") else []),
        ]
    if "greedy" in shared:
        return [_share("accuracy", "greedy"), *([_LAST_WORD] if "log_probability" in shared else [])]
    return [
        *(_share("exact_match", key) for key in shared if key == "correct"),
        *(_share(key, key) for key in shared if key.startswith("accuracy")),
        *(Measure(key, "bits", _figure(key)) for key in shared if key == "bits_per_byte"),
        *(Measure(key, "nats", _figure(key)) for key in shared if key == "margin"),
    ]


def _share(metric: str, key: str) -> Measure:
    return Measure(metric, "share", _figure(key))


def _per(unit: str) -> Measure:
    return Measure(f"{unit}_perplexity", "perplexity", _figure("nats"), _figure(f"{unit}s"))


def _figure(key: str) -> Callable[[Result], float]:
    def read(result: Result) -> float:
        return float(result[key])

    return read


_BITS = Measure("bits_per_byte", "bits", lambda result: float(result["nats"]) / math.log(2), _figure("bytes"))
_LAST_WORD = Measure("perplexity", "perplexity", lambda result: -float(result["log_probability"]))


def _is_figure(value: Any) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value)


def _counts(results: Sequence[Result], key: str) -> bool:
    found = [result.get(key) for result in results]
    return all(isinstance(value, int) for value in found) and sum(value for value in found if value) > 0
