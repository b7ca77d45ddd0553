"""Two models on the same items: what differs, what could have been seen, and what may be called the same.

Three kinds of noise are kept apart. Items: the paired difference over items, or clusters of them. Shots: the spread
over several draws of solved examples. Training seeds: the spread over several trainings of a side. A kind without data
is None, and the difference then speaks of these very shots, or of these very checkpoints.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.evaluation.comparable import Matched, match
from megalith.evaluation.measures import Measure, Scores, measures_of
from megalith.statistics import (
    Difference,
    clustered_interval,
    equivalence_p,
    false_discovery,
    mcnemar,
    paired_difference,
    smallest_visible_difference,
    t_difference,
    variance_parts,
)

Row = dict[str, Any]
_LEVEL = 0.05
_MARGIN = "Use a positive number, such as 1 point and 0.5 percent."


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison and what stands beside them, all of it JSON."""

    a: list[str]
    b: list[str]
    margin_points: float
    """The largest difference of shares that counts as none, in points (hundredths)."""
    margin_percent: float
    """The largest difference of perplexities that counts as none, in percent."""
    rows: list[Row]
    refused: list[Row]
    """Tasks that could not be compared, with the reason."""


def compare(
    a: Sequence[Path], b: Sequence[Path], *, margin_points: float, margin_percent: float, flips: bool = False
) -> Comparison:
    """Compare the evaluations of side `b` with those of side `a` on the items that all of them share.

    Each side is one evaluate artifact, or several: trainings of other seeds, or the same model with other draws of
    shots. A difference of shares of up to `margin_points`, or of perplexities of up to `margin_percent`, counts as
    none. With `flips`, each row lists the items that went from right to wrong and from wrong to right.

    Raises InputError as `comparable.match` does, and for a margin that is not positive.
    """
    for option, margin in (("--margin-points", margin_points), ("--margin-percent", margin_percent)):
        if margin <= 0:
            raise InputError(f"a margin of {margin:g} leaves no room to be the same.", where=option, mend=_MARGIN)
    matched, refused = match(a, b)
    rows = [
        _row(task, measure, measure.margin(margin_points / 100, margin_percent / 100), flips)
        for task in matched
        for measure in measures_of([result for run in task.runs for result in task.results(run)])
    ]
    for key in ("p", "same_p"):
        for row, adjusted in zip(rows, false_discovery([_nan(row[key]) for row in rows]), strict=True):
            row[f"{key}_adjusted"] = None if math.isnan(adjusted) else adjusted
    for row in rows:
        row["verdict"] = _verdict(row)
    why = [{"name": name, "shots": shots, "why": reason} for name, shots, reason in refused]
    return Comparison([str(path) for path in a], [str(path) for path in b], margin_points, margin_percent, rows, why)


def _row(task: Matched, measure: Measure, margin: float | None, flips: bool) -> Row:
    told: Row = {
        "name": task.name,
        "shots": task.shots,
        "metric": measure.metric,
        "unit": measure.unit,
        "higher_is_better": measure.higher_is_better,
        "documents": len(task.ids),
        "clusters": len(set(task.groups)),
        "left_out": task.left_out,
        "trainings": [len(task.a), len(task.b)],
        "draws": len(task.a[0]),
        "margin": None if margin is None else measure.step(margin),
    }
    if why_not := _why_not(task, measure):
        return told | dict.fromkeys(_FIGURES) | {"note": why_not}
    return told | _figures(task, measure, margin, flips) | {"note": _cut(task)}


_FIGURES = (
    "a", "b", "a_interval", "b_interval", "difference", "interval", "standard_error", "noise", "smallest_visible", "p",
    "test", "same_p", "right_to_wrong", "wrong_to_right",
)  # fmt: skip


def _figures(task: Matched, measure: Measure, margin: float | None, flips: bool) -> Row:
    a, b = (_scores(task, measure, side) for side in (task.a, task.b))  # (trainings, draws, items)
    old, new = (side.mean(axis=(0, 1)).tolist() for side in (a, b))  # (items,)
    groups, share = task.groups, measure.unit == "share"
    difference, noise = _with_other_noise(paired_difference(old, new, groups, proportion=share), a, b)
    counted = share and a.shape[:2] == b.shape[:2] == (1, 1)
    worse = [one for one, was, now in zip(task.ids, old, new, strict=True) if was == 1 and now < 1]
    better = [one for one, was, now in zip(task.ids, old, new, strict=True) if was < 1 and now == 1]
    mcnemars = counted and {*old, *new} <= {0.0, 1.0} and len(set(groups)) == len(groups)
    found: Row = {
        "a": measure.score(float(np.mean(old))),
        "b": measure.score(float(np.mean(new))),
        "a_interval": _interval(measure, old, groups),
        "b_interval": _interval(measure, new, groups),
        "difference": measure.step(difference.difference),
        "noise": noise,
        "right_to_wrong": len(worse) if counted else None,
        "wrong_to_right": len(better) if counted else None,
    }
    if flips and counted:
        found["flips"] = {"right_to_wrong": worse, "wrong_to_right": better}
    if not math.isfinite(difference.error):
        return dict.fromkeys(_FIGURES) | found
    visible = smallest_visible_difference(difference.error, freedom=difference.freedom)
    same = None
    if margin is not None:
        same = equivalence_p(difference.difference, difference.error, margin, difference.freedom)
    return found | {
        "interval": [measure.step(end) for end in difference.interval],
        "standard_error": difference.error,
        "smallest_visible": measure.step(visible),
        "p": mcnemar(len(worse), len(better)) if mcnemars else difference.p,
        "test": "McNemar" if mcnemars else "paired t",
        "same_p": same,
    }


def _scores(task: Matched, measure: Measure, side: Sequence[Sequence[Any]]) -> Scores:
    return np.array([[measure.item_scores(task.results(run)) for run in training] for training in side])


def _with_other_noise(items: Difference, a: Scores, b: Scores) -> tuple[Difference, dict[str, float | None]]:
    """The difference with the noise of shots and of trainings added, and the standard error that each kind gives.

    The degrees of freedom of the sum are Satterthwaite's (1946). A training's score is taken over these very items, so
    what seeds and items do together is in both parts: the error is rather too large than too small.
    """
    draws = a.shape[1]
    shots = None
    if draws > 1:
        steps = (b.mean(axis=0) - a.mean(axis=0)).T  # (items, draws)
        parts = {part.axes: part.of_mean for part in variance_parts(steps, ("items", "shots"))}
        shots = math.sqrt(parts.get(("shots",), 0.0))
    seeds = [
        (float(np.var(side.mean(axis=(1, 2)), ddof=1)) / len(side), len(side) - 1) for side in (a, b) if len(side) > 1
    ]
    kinds = [(items.error**2, items.freedom), *([(shots**2, draws - 1)] if shots is not None else []), *seeds]
    noise = {
        "items": items.error if math.isfinite(items.error) else None,
        "shots": shots,
        "seeds": math.sqrt(sum(variance for variance, _ in seeds)) if seeds else None,
    }
    whole = sum(variance for variance, _ in kinds)
    if len(kinds) == 1 or not math.isfinite(whole) or whole == 0:
        return items, noise
    freedom = whole**2 / sum(variance**2 / free for variance, free in kinds)
    return t_difference(items.difference, math.sqrt(whole), freedom, centre=sum(items.interval) / 2), noise


def _why_not(task: Matched, measure: Measure) -> str | None:
    """The reason why a measure has no figures here, if there is one."""
    if measure.metric == "token_perplexity":
        tokens = [[result["tokens"] for result in task.results(run)] for run in task.runs]
        if tokens.count(tokens[0]) < len(tokens):
            return "the tokenizers differ: a token is not the same piece of text for both"
    for run in task.runs:
        for row in run.rows:
            if row["metric"] == measure.metric and row["score"] is None and row["documents"]:
                return f"no score in {run.place}: {row.get('note') or 'it is not finite'}"
    return None


def _cut(task: Matched) -> str | None:
    """A note where prompts were cut to fit the context of some of the models."""
    cut = [sum(bool(result.get("truncated")) for result in task.results(run)) for run in task.runs]
    if not any(cut):
        return None
    told = ", ".join(f"{many} for {run.place.name}" for many, run in zip(cut, task.runs, strict=True))
    return f"prompts cut to fit the context: {told}"


def _interval(measure: Measure, scores: Sequence[float], groups: Sequence[str]) -> list[float] | None:
    found = clustered_interval(scores, groups, proportion=measure.unit == "share")
    return [measure.score(end) for end in found] if all(map(math.isfinite, found)) else None


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _verdict(row: Row) -> str:
    """The claim that the adjusted tests allow."""
    differs, same = (row[key] is not None and row[key] <= _LEVEL for key in ("p_adjusted", "same_p_adjusted"))
    if differs:
        winner = "B" if (row["difference"] > 0) == row["higher_is_better"] else "A"
        return f"{winner} is better" + (", by less than the margin" if same else "")
    return "the same within the margin" if same else "cannot tell"
