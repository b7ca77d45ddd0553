"""The verb `evaluate`: the stage of that name."""

import os
from collections.abc import Mapping
from typing import Any

from megalith.artifacts import Artifact
from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Model, Output, Overrides, RecipeName, Source
from megalith.cli.tables import cell, print_json
from megalith.console import note, show, table

_HEADINGS = ("task", "shots", "metric", "score", "95 % interval", "chance", "items", "clusters", "tie")


@resuming_verb
def evaluate(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    model: Model = None,
    output: Output = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Perplexity and zero- and few-shot tasks, with standard errors."""
    from megalith import verbs

    made = verbs.evaluate(
        recipe, overrides=overrides or (), source=source or (), model=model, output=output, fresh=fresh
    )
    if os.environ.get("RANK", "0") == "0":  # one of several under torchrun speaks
        _show(made, as_json=as_json)


def _show(made: Artifact, *, as_json: bool) -> None:
    if as_json:
        print_json({**made.facts, "artifact": str(made.path), "digest": made.digest})
        return
    rows = made.facts["tasks"]
    show(table(f"evaluate: {made.path}", _HEADINGS, [_cells(row) for row in rows]))
    for text in dict.fromkeys(f"{row['name']}, {row['shots']} shots: {row['note']}" for row in rows if row["note"]):
        note(text)
    for run in made.facts["runs"]:
        if run["truncated"] or run["dropped_shots"]:
            note(
                f"{run['name']}, {run['shots']} shots: {run['dropped_shots']:,} solved examples left out and "
                f"{run['truncated']:,} prompts cut, to fit the context"
            )


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = row["interval"]
    span = f"{cell(interval[0])} – {cell(interval[1])}" if interval else "–"
    keys = ("name", "shots", "metric", "score", "chance", "documents", "clusters", "ties")
    name, shots, metric, score, chance, documents, clusters, ties = (cell(row[key]) for key in keys)
    return [name, shots, metric, score, span, chance, documents, clusters, ties]
