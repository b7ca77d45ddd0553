"""HANS: does the model reason, or answer "true" wherever the hypothesis looks like the premise?

The prompt is that of GPT-3 and MT-NLG; the answer is the more likely of " True" and " False". The margin log P(True) −
log P(False) is more informative than the answer of a small model, which is always the same.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from megalith.audit.answers import ask
from megalith.audit.files import sample
from megalith.audit.instrument import Facts, Instrument, Item, Run
from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.shots import ShotPlan
from megalith.evaluation.tasks.hans import HANS, hans_document
from megalith.evaluation.tasks.hans_generated import hans_records
from megalith.evaluation.tasks.hans_templates import HEURISTICS, LABELS, SUBCASES
from megalith.statistics import clustered_interval, clustered_mean_and_standard_error, wilson_interval
from megalith.statistics.histogram import counts_between, round_edges

CHANCE = 0.5
CLUSTER = "template"
_POOL_PER_CELL = 100  # so that a sub-case has examples enough of its own
_SUBCASES_PER_CELL = len(SUBCASES) // (len(HEURISTICS) * len(LABELS))
LIMITS = (
    "One prompt in English, and sentences of few forms: intervals count other templates of the same sub-cases, not "
    "other prompts. Right answers on one label alone say that a model answers alike, not that it reasons."
)


def hans(
    documents: Sequence[Document], pool: Sequence[Document], shots: int, seed: int, files: Sequence[Path] = ()
) -> Instrument:
    """Return the instrument with `shots` solved examples, balanced over both labels, before each document."""
    plan = ShotPlan(count=shots, seed=seed, labels="balanced")
    judge = partial(ask, documents=documents, pool=pool, plans={"hans": plan}, cluster=CLUSTER)
    return Instrument([Run("hans", judge)], lambda found: summary(found["hans"]), files)


def hans_documents(per_cell: int, seed: int, file: Path | None = None) -> tuple[list[Document], list[Document]]:
    """Return `per_cell` documents of each heuristic and label, and the pool of their shots.

    They are made from templates, or come from the official `file`, whose other examples are in the pool too. Shots may
    be of the document's own template.

    Raises RecipeError if the templates yield too few, InputError for a file that is not of the official form.
    """
    if file is None:
        made, pool = (hans_records(count, seed) for count in (per_cell, max(per_cell, _POOL_PER_CELL)))
        return [hans_document(record) for record in made], [hans_document(record) for record in pool]
    read = [hans_document(record) for record in HANS.records([file])]
    chosen: list[Document] = []
    for _, _, subcase in SUBCASES:
        own = [one for one in read if one.fields["subcase"] == subcase]
        if not own:
            raise InputError(
                f"this file has no examples of the sub-case {subcase}.",
                where=str(file),
                mend="Use the evaluation set as published.",
            )
        chosen += sample(own, -(-per_cell // _SUBCASES_PER_CELL), seed, lambda one: one.id)
    return chosen, read


def summary(items: Sequence[Item]) -> Facts:
    """Return accuracy over all documents, by heuristic × label and by sub-case, with 95 % intervals.

    Templates are the clusters, but within a sub-case, which has few of them. `histograms` count margins between edges.
    """
    correct = [item["correct"] for item in items]
    templates = [item["cluster"] for item in items]
    accuracy, error = clustered_mean_and_standard_error(correct, templates)
    interval = clustered_interval(correct, templates, proportion=True)
    said_true = answered_true(items)
    return {
        "examples": len(items),
        "accuracy": accuracy,
        "standard_error": error,
        "interval": list(interval),
        "chance": CHANCE,
        "answered_true": said_true,
        "truncated": sum(item["truncated"] for item in items),
        "cells": cells(items),
        "subcases": [_subcase(*each, items) for each in SUBCASES if _of(items, each[2])],
        "histograms": histograms(items),
        "note": _note(accuracy, interval, said_true),
        "limits": LIMITS,
    }


def true_margin(item: Item) -> float:
    """Return log P(True) − log P(False), in nats."""
    return float(item["log_probabilities"][0] - item["log_probabilities"][1])


def answered_true(items: Sequence[Item]) -> float:
    """Return the share of documents whose likelier answer is True."""
    return sum(true_margin(item) > 0 for item in items) / len(items)


def cells(items: Sequence[Item]) -> list[Facts]:
    """Return accuracy and mean margin by heuristic × label, in the official order of heuristics, entailment first."""
    return [
        _cell(heuristic, label, own)
        for heuristic in HEURISTICS
        for label in LABELS
        if (own := [i for i in items if (i["fields"]["heuristic"], i["fields"]["label"]) == (heuristic, label)])
    ]


def histograms(items: Sequence[Item], edges: Sequence[float] = ()) -> Facts:
    """Return how many margins of each heuristic × label lie between edges (found from the margins if not given)."""
    edges = edges or round_edges([true_margin(item) for item in items])
    rows = [
        {
            "heuristic": heuristic,
            "label": label,
            "counts": counts_between(
                edges,
                [
                    true_margin(item)
                    for item in items
                    if (item["fields"]["heuristic"], item["fields"]["label"]) == (heuristic, label)
                ],
            ),
        }
        for heuristic in HEURISTICS
        for label in LABELS
    ]
    return {"edges": list(edges), "rows": rows}


def _cell(heuristic: str, label: str, items: Sequence[Item]) -> Facts:
    correct = [item["correct"] for item in items]
    return {
        "heuristic": heuristic,
        "label": label,
        "accuracy": sum(correct) / len(correct),
        "documents": len(correct),
        "interval": list(clustered_interval(correct, [item["cluster"] for item in items], proportion=True)),
        "mean_margin": sum(map(true_margin, items)) / len(items),
    }


def _of(items: Sequence[Item], subcase: str) -> list[Item]:
    return [item for item in items if item["fields"]["subcase"] == subcase]


def _subcase(heuristic: str, label: str, subcase: str, items: Sequence[Item]) -> Facts:
    own = _of(items, subcase)
    right = sum(item["correct"] for item in own)
    return {
        "subcase": subcase,
        "heuristic": heuristic,
        "label": label,
        "accuracy": right / len(own),
        "documents": len(own),
        "interval": list(wilson_interval(right, len(own))),
        "mean_margin": sum(map(true_margin, own)) / len(own),
    }


def _note(accuracy: float, interval: tuple[float, float], said_true: float) -> str:
    low, high = interval
    said = f"It answered True to {said_true:.0%} of the questions."
    if low <= CHANCE <= high:
        return f"Accuracy {accuracy:.1%} is not told apart from chance ({low:.1%} – {high:.1%} holds 50 %). {said}"
    side = "above" if low > CHANCE else "below"
    return f"Accuracy {accuracy:.1%} is {side} chance ({low:.1%} – {high:.1%} leaves out 50 %). {said}"
