"""HANS with solved examples: how accuracy and margins move with their number, source, order and mix of classes.

MT-NLG finds that examples act like training data: those of a sub-case teach its label, and unrepresentative ones pull
answers. A sub-case has one label: its own examples all show the right answer, which a reader of labels alone can copy.
`right_labels` is therefore the share of shots that carry the document's own label; compare accuracy with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from megalith.audit.answers import ask
from megalith.audit.hans import CLUSTER, answered_true, cells, histograms, true_margin
from megalith.audit.instrument import Facts, Instrument, Item, Run
from megalith.evaluation.document import Document
from megalith.evaluation.shots import ShotPlan
from megalith.statistics import clustered_interval, paired_difference
from megalith.statistics.histogram import round_edges

LIMITS = (
    "Shots of the same sub-case differ from the question in words alone. Shifts are against the first row of the same "
    "table, paired by document, with templates as clusters."
)


def hans_shots(
    documents: Sequence[Document],
    pool: Sequence[Document],
    counts: Sequence[int],
    shots: int,
    seed: int,
    files: Sequence[Path] = (),
) -> Instrument:
    """Return the instrument: `counts` of shots, and `shots` of them where source, order or mix change."""
    plans = plans_of(counts, shots, seed)
    runs = [
        Run(f"hans_shots-{name}", partial(ask, documents=documents, pool=pool, plans=own, cluster=CLUSTER))
        for name, own in plans.items()
    ]

    def tell(results: Mapping[str, list[Item]]) -> Facts:
        return summary({name: results[f"hans_shots-{name}"] for name in plans}, shots)

    return Instrument(runs, tell, files)


def plans_of(counts: Sequence[int], shots: int, seed: int) -> dict[str, dict[str, ShotPlan]]:
    """Return the plans by table and row; each table's first row is what the others are compared with."""
    base = ShotPlan(count=shots, seed=seed, labels="balanced")
    drawn = replace(base, labels="drawn")
    return {
        "counts": {str(count): replace(base, count=count) for count in dict.fromkeys(counts)},
        "sources": {
            "any": drawn,
            "same sub-case": replace(drawn, source=("subcase", "same")),
            "other sub-case": replace(drawn, source=("subcase", "other")),
            "same heuristic": replace(drawn, source=("heuristic", "same")),
            "other heuristic": replace(drawn, source=("heuristic", "other")),
        },
        "orders": {
            "drawn": base,
            "reversed": replace(base, order="reversed"),
            "rotated": replace(base, order="rotated"),
            "by label": replace(base, order="by_label"),
        },
        "mix": {
            f"{share:.0%} True": replace(base, labels={"True": share, "False": 1 - share})
            for share in (0.5, 0.0, 0.25, 0.75, 1.0)
        },
    }


def summary(tables: Mapping[str, Sequence[Item]], shots: int) -> Facts:
    """Return a list of rows for each table, all histograms with the same edges."""
    edges = round_edges([true_margin(item) for items in tables.values() for item in items])
    return {
        "shots": shots,
        "documents": len({item["id"] for item in tables["counts"]}),
        "tables": {name: _rows(items, edges) for name, items in tables.items()},
        "truncated": sum(item["truncated"] for items in tables.values() for item in items),
        "limits": LIMITS,
    }


def _rows(items: Sequence[Item], edges: Sequence[float]) -> list[Facts]:
    plans: dict[str, list[Item]] = {}
    for item in items:
        plans.setdefault(item["plan"], []).append(item)
    first = next(iter(plans.values()))
    return [_row(name, own, first, edges) for name, own in plans.items()]


def _row(name: str, items: Sequence[Item], first: Sequence[Item], edges: Sequence[float]) -> Facts:
    templates = [item["cluster"] for item in items]
    margins, before = [true_margin(item) for item in items], [true_margin(item) for item in first]
    shift = paired_difference(before, margins, templates)
    correct, correct_before = [item["correct"] for item in items], [item["correct"] for item in first]
    change = paired_difference(correct_before, correct, templates, proportion=True)
    shown = [label == item["label"] for item in items for label in item["shot_labels"]]
    same = items is first
    return {
        "plan": name,
        "accuracy": float(np.mean(correct)),
        "interval": list(clustered_interval(correct, templates, proportion=True)),
        "change": change.difference,
        "change_interval": None if same else list(change.interval),
        "answered_true": answered_true(items),
        "right_labels": float(np.mean(shown)) if shown else None,
        "mean_margin": float(np.mean(margins)),
        "margin_interval": list(clustered_interval(margins, templates)),
        "shift": shift.difference,
        "shift_interval": None if same else list(shift.interval),
        "cells": cells(items),
        "histograms": histograms(items, edges),
    }
