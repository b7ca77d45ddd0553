"""Predictions of any system on the official HANS set, scored as its authors do (McCoy et al. 2019).

A file has a line "pairID,gold_label" and one line for each of the 30,000 examples, "ex123,entailment". The label of
example N follows from its sub-case, N // 1000 of the official order. Neutral and contradiction are non-entailment.
"""

from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.evaluation.formats import table_rows
from megalith.evaluation.tasks.hans_templates import ENTAILED, HEURISTICS, LABELS, NOT_ENTAILED, SUBCASES
from megalith.statistics import wilson_interval

PER_SUBCASE = 1000
_ANSWERS = {ENTAILED: ENTAILED, NOT_ENTAILED: NOT_ENTAILED, "neutral": NOT_ENTAILED, "contradiction": NOT_ENTAILED}
_MEND = "Use a header pairID,gold_label and one line for each of ex0 … ex29999."


def hans_predictions(path: str | Path) -> dict[str, Any]:
    """Return the accuracy by heuristic × label and by sub-case of a file of predictions, plain or gzipped.

    Raises InputError for a line that is not a prediction, an example that comes twice, and missing examples.
    """
    path = Path(path)
    answers: dict[int, str] = {}
    for row in table_rows(path, ","):
        name, answer = row.text("pairID"), row.text("gold_label")
        number = int(name[2:]) if name.startswith("ex") and name[2:].isdecimal() else -1
        if not 0 <= number < PER_SUBCASE * len(SUBCASES):
            raise InputError(f"{name!r} is not one of the 30,000 examples.", where=row.where, mend=_MEND)
        if number in answers:
            raise InputError(f"{name} comes twice.", where=row.where, mend="Remove one of the two lines.")
        if answer not in _ANSWERS:
            raise InputError(
                f"{answer!r} is not an answer.", where=row.where, mend=f"Use {', '.join(sorted(_ANSWERS))}."
            )
        answers[number] = _ANSWERS[answer]
    missing = PER_SUBCASE * len(SUBCASES) - len(answers)
    if missing:
        raise InputError(f"{missing:,} of the 30,000 predictions are missing.", where=str(path), mend=_MEND)
    right = [
        sum(answers[place * PER_SUBCASE + number] == label for number in range(PER_SUBCASE))
        for place, (_, label, _) in enumerate(SUBCASES)
    ]
    return {
        "accuracy": sum(right) / len(answers),
        "cells": [
            {"heuristic": heuristic, "label": label, **_share(own)}
            for heuristic in HEURISTICS
            for label in LABELS
            if (own := [n for n, each in zip(right, SUBCASES, strict=True) if each[:2] == (heuristic, label)])
        ],
        "subcases": [
            {"subcase": subcase, "heuristic": heuristic, "label": label, **_share([own])}
            for own, (heuristic, label, subcase) in zip(right, SUBCASES, strict=True)
        ],
    }


def _share(right: list[int]) -> dict[str, Any]:
    documents = PER_SUBCASE * len(right)
    return {
        "accuracy": sum(right) / documents,
        "documents": documents,
        "interval": list(wilson_interval(sum(right), documents)),
    }
