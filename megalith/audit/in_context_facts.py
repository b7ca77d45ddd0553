"""Figures of in-context sensitivity from the items: differences with intervals, variance by cause, and F tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from megalith.audit.answers import toward
from megalith.audit.instrument import Facts, Item
from megalith.statistics import clustered_interval, paired_difference, variance_parts

MEASURES = ("correct", "margin")
ODDS = "first_class_odds"
"""Log odds of the first class: a prompt that pulls all answers to one class leaves the mean margin where it was, since
as much is won on one class as is lost on the other."""
LIMITS = (
    "Draws and orders are a sample of all prompts; another pool of examples may move the score more. F tests take "
    "documents as independent, and for right answers (0 or 1) hold roughly."
)


def summary(task: str, passes: Mapping[str, Sequence[Item]], classes: Sequence[str], shots: int) -> Facts:
    """Return the figures of one task; `labels` and `wrong` are None where the task does not allow them."""
    counts = _by_plan(passes["counts"])
    draws = [item | {ODDS: toward(item, 0)} for item in passes["draws"]]
    wrong, labels = _by_plan(passes.get("wrong", ())), _by_plan(passes.get("labels", ()))
    return {
        "task": task,
        "documents": len(next(iter(counts.values()))),
        "shots": shots,
        "counts": [_row("shots", name, items, next(iter(counts.values()))) for name, items in counts.items()],
        "draws": {measure: _draws(draws, measure) for measure in (*MEASURES, *((ODDS,) if classes else ()))},
        "labels": _labels(labels, classes) if labels else None,
        "wrong": [_row("wrong", name, items, next(iter(wrong.values()))) for name, items in wrong.items()] or None,
        "truncated": sum(item["truncated"] for items in passes.values() for item in items),
        "limits": LIMITS,
    }


def _by_plan(items: Sequence[Item]) -> dict[str, list[Item]]:
    plans: dict[str, list[Item]] = {}
    for item in items:
        plans.setdefault(item["plan"], []).append(item)
    return plans


def _row(key: str, name: str, items: Sequence[Item], first: Sequence[Item]) -> Facts:
    """Return accuracy and mean margin, and their paired differences from the first plan."""
    groups = _groups(items)
    row: Facts = {key: float(name)}
    for measure in MEASURES:
        values, before = ([item[measure] for item in own] for own in (items, first))
        moved = paired_difference(before, values, groups, proportion=measure == "correct")
        row[measure] = {
            "mean": float(np.mean(values)),
            "interval": list(clustered_interval(values, groups, proportion=measure == "correct")),
            "difference": moved.difference,
            "difference_interval": list(moved.interval) if items is not first else [0.0, 0.0],
            "p": moved.p,
        }
    return row


def _draws(items: Sequence[Item], measure: str) -> Facts:
    """Return how a score spreads over prompts, and the parts of its variance, from a table documents × draws × orders.

    The orders of one draw have nothing in common with those of another: their part is that of orders together with
    that of draws × orders.
    """
    plans = _by_plan(items)
    shape = [1 + max(int(name.split("/")[axis]) for name in plans) for axis in (0, 1)]
    table = np.array(
        [
            [[item[measure] for item in plans[f"{draw}/{order}"]] for order in range(shape[1])]
            for draw in range(shape[0])
        ]
    )  # (draws, orders, documents)
    table = table.transpose(2, 0, 1)
    prompts = table.mean(axis=0)
    found = {part.axes: part.variance for part in variance_parts(table, ("documents", "draws", "orders"))}
    parts = {
        "documents": found.get(("documents",), 0.0),
        "draws": found.get(("draws",), 0.0),
        "orders": found.get(("orders",), 0.0) + found.get(("draws", "orders"), 0.0),
        "documents × draws": found.get(("documents", "draws"), 0.0),
        "rest": found.get(("documents", "orders"), 0.0) + found.get(("documents", "draws", "orders"), 0.0),
    }
    whole = sum(parts.values())
    return {
        "prompts": int(prompts.size),
        "mean": float(prompts.mean()),
        "lowest": float(prompts.min()),
        "highest": float(prompts.max()),
        "deviation_of_prompts": float(prompts.std(ddof=1)) if prompts.size > 1 else None,
        "variance": [
            {"part": name, "variance": value, "share": value / whole if whole else 0.0} for name, value in parts.items()
        ],
        "draws_test": _f_test(table.mean(axis=2)),
        "orders_test": _f_test(table, nested=True),
    }


def _f_test(table: npt.NDArray[np.float64], *, nested: bool = False) -> Facts | None:
    """Test whether the mean over documents differs between columns: F of their mean square over the interaction's.

    `table` is (documents, columns), or nested (documents, draws, orders), where the orders of each draw are compared.
    None where there is nothing to compare, or nothing varies.
    """
    from scipy.special import fdtrc

    cells = table if nested else table[:, None, :]  # (documents, blocks, columns)
    documents, blocks, columns = cells.shape
    if documents < 2 or columns < 2:
        return None
    centred = cells - cells.mean(axis=2, keepdims=True)
    effect = centred.mean(axis=0, keepdims=True)
    freedom = blocks * (columns - 1), blocks * (columns - 1) * (documents - 1)
    between = documents * float(np.sum(effect**2)) / freedom[0]
    within = float(np.sum((centred - effect) ** 2)) / freedom[1]
    if within == 0:
        return {"f": None, "freedom": list(freedom), "p": 0.0 if between > 0 else 1.0}
    return {"f": between / within, "freedom": list(freedom), "p": float(fdtrc(*freedom, between / within))}


def _labels(plans: Mapping[str, Sequence[Item]], classes: Sequence[str]) -> list[Facts]:
    """Return for each class how far shots of that class alone move its answers from those under balanced shots.

    `shift` is in nats of the log odds of the class against the others; `said` the share of documents it is chosen for.
    """
    balanced = plans["balanced"]
    groups = _groups(balanced)
    rows = []
    for place, label in enumerate(classes):
        biased = plans[f"all {label}"]
        odds = [[toward(item, place) for item in own] for own in (balanced, biased)]
        said = [[_said(item, place) for item in own] for own in (balanced, biased)]
        shift = paired_difference(odds[0], odds[1], groups)
        more = paired_difference(said[0], said[1], groups, proportion=True)
        rows.append(
            {
                "label": label,
                "log_odds": [float(np.mean(own)) for own in odds],
                "shift": shift.difference,
                "shift_interval": list(shift.interval),
                "p": shift.p,
                "said": [float(np.mean(own)) for own in said],
                "said_more": more.difference,
                "said_more_interval": list(more.interval),
                "accuracy": [float(np.mean([item["correct"] for item in own])) for own in (balanced, biased)],
            }
        )
    return rows


def _said(item: Mapping[str, Any], place: int) -> float:
    best = max(item["log_probabilities"])
    first = [at for at, value in enumerate(item["log_probabilities"]) if value == best]
    return (place in first) / len(first)


def _groups(items: Sequence[Item]) -> list[str]:
    return [item["cluster"] for item in items]
