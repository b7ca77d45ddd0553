"""From per-item results to the rows of the table: a score, its standard error, and its 95 % interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from megalith.statistics import Z_95, mean_and_standard_error, ratio_and_standard_error, wilson_interval

Row = dict[str, Any]
Results = Sequence[Mapping[str, Any]]

_LARGEST_EXPONENT = 300.0  # beyond it, exp overflows a double


def perplexity_rows(name: str, shots: int, results: Results) -> list[Row]:
    """Return perplexities per token and per byte. Documents are the independent units (delta method)."""
    nats = [result["nats"] for result in results]
    tokens = [result["tokens"] for result in results]
    text_bytes = [result["bytes"] for result in results]
    bits, error = ratio_and_standard_error([cost / math.log(2) for cost in nats], text_bytes)
    interval = _normal(bits, error)
    return [
        _exponential(name, shots, "token_perplexity", nats, tokens),
        _exponential(name, shots, "byte_perplexity", nats, text_bytes),
        _row(name, shots, "bits_per_byte", bits, error, interval, len(results), higher_is_better=False),
    ]


def last_word_rows(name: str, shots: int, results: Results) -> list[Row]:
    """Return the share of targets whose every token is the model's first choice, and the perplexity of a target."""
    nats = [-result["log_probability"] for result in results]
    return [
        _proportion(name, shots, "accuracy", [float(result["greedy"]) for result in results], None),
        _exponential(name, shots, "perplexity", nats, [1.0] * len(nats)),
    ]


def choice_rows(name: str, shots: int, results: Results) -> list[Row]:
    """Return the accuracy by total log-likelihood and by log-likelihood per byte."""
    chance = sum(1 / len(result["log_probabilities"]) for result in results) / len(results) if results else None
    return [
        _proportion(name, shots, metric, [result[metric] for result in results], chance)
        for metric in ("accuracy", "accuracy_per_byte")
    ]


def exact_rows(name: str, shots: int, results: Results) -> list[Row]:
    """Return the share of exactly right answers."""
    return [_proportion(name, shots, "exact_match", [float(result["correct"]) for result in results], None)]


def _proportion(name: str, shots: int, metric: str, scores: Sequence[float], chance: float | None) -> Row:
    mean, error = mean_and_standard_error(scores)
    interval = wilson_interval(sum(scores), len(scores))
    return _row(name, shots, metric, mean, error, interval, len(scores), chance=chance)


def _exponential(name: str, shots: int, metric: str, nats: Sequence[float], units: Sequence[float]) -> Row:
    ratio, error = ratio_and_standard_error(nats, units)
    score = math.exp(min(ratio, _LARGEST_EXPONENT))
    low, high = (math.exp(min(end, _LARGEST_EXPONENT)) for end in _normal(ratio, error))
    return _row(name, shots, metric, score, score * error, (low, high), len(nats), higher_is_better=False)


def _normal(centre: float, error: float) -> tuple[float, float]:
    return centre - Z_95 * error, centre + Z_95 * error


def _row(
    name: str,
    shots: int,
    metric: str,
    score: float,
    error: float,
    interval: tuple[float, float],
    documents: int,
    *,
    chance: float | None = None,
    higher_is_better: bool = True,
) -> Row:
    return {
        "name": name,
        "shots": shots,
        "metric": metric,
        "score": _finite(score),
        "standard_error": _finite(error),
        "interval": list(interval) if documents > 1 else None,
        "documents": documents,
        "chance": chance,
        "higher_is_better": higher_is_better,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
