"""From per-item results to the rows of the table: a score, its standard error, and its 95 % interval.

Items of one group (a passage, a template) are one cluster. Where most items tie exactly, no score is given: it would
tell how ties are counted, not what the model knows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from megalith.statistics import (
    clustered_interval,
    clustered_mean_and_standard_error,
    mean_and_standard_error,
    ratio_and_standard_error,
    t_quantile,
)

Row = dict[str, Any]
Results = Sequence[Mapping[str, Any]]

_LARGEST_EXPONENT = 300.0  # beyond it, exp overflows a double
_CHOICE_METRICS = (
    "accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_per_character", "accuracy_unconditional",
    "accuracy_letter",
)  # fmt: skip


def rows_of(kind: str, name: str, shots: int, results: Results, forms: Sequence[str]) -> list[Row]:
    """The rows of one task at one number of shots; without results, its rows without scores."""
    match kind:
        case "perplexity":
            rows = _perplexity_rows(name, shots, results)
        case "last_word":
            rows = _last_word_rows(name, shots, results)
        case "generate":
            rows = _generate_rows(name, shots, results, forms)
        case _:
            rows = _choice_rows(name, shots, results, forms)
    common = {key: sum(bool(result.get(key)) for result in results) for key in ("truncated", "straddled")}
    return [row | common for row in rows]


def _perplexity_rows(name: str, shots: int, results: Results) -> list[Row]:
    """Perplexities per word (where words are known), token and byte, by the delta method over documents."""
    nats = [result["nats"] for result in results]
    units = [unit for unit in ("word", "token", "byte") if unit != "word" or (results and "words" in results[0])]
    rows = [
        _exponential(name, shots, f"{unit}_perplexity", nats, [result[f"{unit}s"] for result in results])
        for unit in units
    ]
    bits, error = ratio_and_standard_error(
        [cost / math.log(2) for cost in nats], [result["bytes"] for result in results]
    )
    interval = _symmetric(bits, error, len(results))
    return [
        *rows,
        _row(name, shots, "bits_per_byte", bits, error, interval, len(results), len(results), higher_is_better=False),
    ]


def _last_word_rows(name: str, shots: int, results: Results) -> list[Row]:
    """The share of words whose every token is the model's first choice, and the perplexity of a word."""
    nats = [-result["log_probability"] for result in results]
    return [
        _share(name, shots, "accuracy", [float(result["greedy"]) for result in results], results),
        _exponential(name, shots, "perplexity", nats, [1.0] * len(nats)),
    ]


def _choice_rows(name: str, shots: int, results: Results, forms: Sequence[str]) -> list[Row]:
    """Accuracies in each way of comparing, and the bits per byte of the right answer."""
    wanted = _CHOICE_METRICS[:4] if "continuation" in forms else ()
    metrics = [key for key in _CHOICE_METRICS if any(key in result for result in results) or key in wanted]
    rows = [_choice_row(name, shots, key, [one for one in results if key in one]) for key in metrics]
    return [*rows, *_bits_rows(name, shots, results, forms)]


def _choice_row(name: str, shots: int, metric: str, results: Results) -> Row:
    sizes = [len(result.get("log_probabilities") or result["letters"]) for result in results]
    chance = sum(1 / size for size in sizes) / len(sizes) if sizes else None
    row = _share(name, shots, metric, [result[metric] for result in results], results, chance)
    row["ties"] = sum(metric in result["tied"] for result in results)
    if row["ties"] > len(results) / 2:
        note = f"No score: {row['ties']} of {len(results)} items have two or more choices that score best alike."
        row |= {"score": None, "standard_error": None, "interval": None, "centred": None, "note": note}
    return row


def _generate_rows(name: str, shots: int, results: Results, forms: Sequence[str]) -> list[Row]:
    """The share of exactly right answers, and the bits per byte of the right one."""
    correct = [float(result["correct"]) for result in results]
    return [_share(name, shots, "exact_match", correct, results), *_bits_rows(name, shots, results, forms)]


def _bits_rows(name: str, shots: int, results: Results, forms: Sequence[str]) -> list[Row]:
    if "bits_per_byte" not in forms:
        return []
    bits, groups = [result["bits_per_byte"] for result in results], _groups(results)
    mean, error = clustered_mean_and_standard_error(bits, groups)
    interval = clustered_interval(bits, groups) if bits else (math.nan, math.nan)
    row = _row(name, shots, "bits_per_byte", mean, error, interval, len(bits), len(set(groups)), higher_is_better=False)
    return [row]


def _share(
    name: str, shots: int, metric: str, scores: Sequence[float], results: Results, chance: float | None = None
) -> Row:
    groups = _groups(results)
    clusters = len(set(groups))
    mean, error = clustered_mean_and_standard_error(scores, groups)
    interval = clustered_interval(scores, groups, proportion=True) if scores else (0.0, 1.0)
    return _row(name, shots, metric, mean, error, interval, len(scores), clusters, chance=chance)


def _exponential(name: str, shots: int, metric: str, nats: Sequence[float], units: Sequence[float]) -> Row:
    ratio, error = ratio_and_standard_error(nats, units)
    score = math.exp(min(ratio, _LARGEST_EXPONENT))
    low, high = (math.exp(min(end, _LARGEST_EXPONENT)) for end in _symmetric(ratio, error, len(nats)))
    count = len(nats)
    return _row(name, shots, metric, score, score * error, (low, high), count, count, higher_is_better=False)


def _symmetric(centre: float, error: float, count: int) -> tuple[float, float]:
    if count < 2:
        return math.nan, math.nan
    half = t_quantile(0.975, count - 1) * error
    return centre - half, centre + half


def _groups(results: Results) -> list[str]:
    return [str(result.get("group") or result.get("id") or number) for number, result in enumerate(results)]


def _row(
    name: str,
    shots: int,
    metric: str,
    score: float,
    error: float,
    interval: tuple[float, float],
    documents: int,
    clusters: int,
    *,
    chance: float | None = None,
    higher_is_better: bool = True,
) -> Row:
    centred = (score - chance) / (1 - chance) if chance is not None and documents else None
    return {
        "name": name,
        "shots": shots,
        "metric": metric,
        "score": _finite(score),
        "standard_error": _finite(error),
        "interval": list(interval) if clusters > 1 else None,
        "documents": documents,
        "clusters": clusters,
        "chance": chance,
        "centred": centred,
        "higher_is_better": higher_is_better,
        "ties": 0,
        "note": None,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def by_field(rows: Sequence[Row], results: Results, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The first metric of a run by the values of each field, with intervals."""
    if not rows or not results:
        return []
    metric = rows[0]["metric"]
    key = "correct" if metric == "exact_match" else "greedy" if "greedy" in results[0] else str(metric)
    found = []
    for field in fields:
        values = dict.fromkeys(result["fields"][field] for result in results if field in result["fields"])
        for value in values:
            own = [result for result in results if result["fields"].get(field) == value and key in result]
            mean, _ = mean_and_standard_error([float(result[key]) for result in own])
            row = _share(rows[0]["name"], rows[0]["shots"], metric, [float(result[key]) for result in own], own)
            kept = {name: row[name] for name in ("name", "shots", "metric", "interval", "documents", "clusters")}
            found.append(kept | {"field": field, "value": value, "score": _finite(mean)})
    return found
