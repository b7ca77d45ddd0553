"""The verb `compare`: two evaluations item by item."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import note, show, table

Row = Mapping[str, Any]
FOLD = 10
"""Perplexities this many times as large are told as a factor."""

A = Annotated[Path, typer.Argument(metavar="A", help="An evaluate artifact (runs/NAME/evaluate), or an expedition.")]
B = Annotated[Path, typer.Argument(metavar="B", help="The one that is compared with A.")]
MoreA = Annotated[
    list[Path] | None,
    typer.Option("--more-a", help="Another training (seed) of A, or A with other shots; may be repeated."),
]
MoreB = Annotated[list[Path] | None, typer.Option("--more-b", help="The same for B.")]
Points = Annotated[float, typer.Option("--margin-points", help="Difference of shares that counts as none, in points.")]
Percent = Annotated[
    float, typer.Option("--margin-percent", help="Difference of perplexities that counts as none, in percent.")
]
Flips = Annotated[bool, typer.Option("--flips", help="List the items that became wrong, and those that became right.")]
Page = Annotated[Path | None, typer.Option("--output", "-o", help="Write a page with both side by side to this file.")]


@verb
def compare(
    a: A,
    b: B,
    more_a: MoreA = None,
    more_b: MoreB = None,
    margin_points: Points = 1.0,
    margin_percent: Percent = 0.5,
    flips: Flips = False,
    output: Page = None,
    as_json: Json = False,
) -> None:
    """Two evaluations item by item: differences with intervals, flips, and what may be called the same."""
    from megalith import verbs

    found = verbs.compare(
        a,
        b,
        more_a=more_a or (),
        more_b=more_b or (),
        margin_points=margin_points,
        margin_percent=margin_percent,
        flips=flips,
        output=output,
    )
    if as_json:
        print_json(asdict(found))
        return
    show(table("B compared with A", _HEADINGS, [_cells(row) for row in found.rows]))
    for row in found.rows:
        for way, items in (row.get("flips", {}) if flips else {}).items():
            note(f"{row['name']}, {row['shots']} shots, {row['metric']}: {way.replace('_', ' ')}: {', '.join(items)}")
    for one in found.refused:
        note(f"not compared: {one['name']}, {one['shots']} shots: {one['why']}")
    notes = [f"{row['name']}, {row['shots']} shots: {row['note']}" for row in found.rows if row["note"]]
    for told in dict.fromkeys(notes):
        note(told)
    left_out = {(row["name"], row["shots"]): row["left_out"] for row in found.rows if row["left_out"]}
    for (name, shots), many in left_out.items():
        note(f"{name}, {shots} shots: {counted(many, 'item')} left out, which not all of them have")
    note(
        f"the same: within {margin_points:g} points of a share, {margin_percent:g} % of a perplexity; p adjusted for "
        f"{counted(sum(row['p'] is not None for row in found.rows), 'test')} (Benjamini-Hochberg)"
    )
    for told in _noise(found.rows):
        note(told)
    if output is not None:
        note(f"page: {output}")


_HEADINGS = (
    "task", "shots", "metric", "items", "A", "B", "B − A, 95 %", "visible", "p adjusted", "to wrong / right", "verdict",
)  # fmt: skip


def _cells(row: Row) -> list[str]:
    form = _form(row)
    clusters = f" ({row['clusters']:,} clusters)" if row["clusters"] < row["documents"] else ""
    interval = f" [{form(row['interval'][0])}, {form(row['interval'][1])}]" if row["interval"] else ""
    flips = "–" if row["right_to_wrong"] is None else f"{row['right_to_wrong']} / {row['wrong_to_right']}"
    return [
        row["name"],
        str(row["shots"]),
        row["metric"].replace("_", " "),
        f"{row['documents']:,}{clusters}",
        _score(row, row["a"]),
        _score(row, row["b"]),
        "–" if row["difference"] is None else form(row["difference"]) + interval,
        "–" if row["smallest_visible"] is None else form(row["smallest_visible"]).lstrip("+"),
        "–" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3g}",
        flips,
        row["verdict"],
    ]


def _form(row: Row) -> Callable[[float], str]:
    """How a difference of this row is written: points of a share, percent of a perplexity, or its unit."""
    match row["unit"]:
        case "share":
            return lambda step: f"{100 * step:+.1f}"
        case "perplexity":
            return lambda step: f"{100 * step:+.2f} %" if step < FOLD - 1 else f"× {1 + step:.3g}"
    return lambda step: f"{step:+.4f}"


def _score(row: Row, score: float | None) -> str:
    if score is None:
        return "–"
    return f"{100 * score:.1f} %" if row["unit"] == "share" else f"{score:.4g}"


def _noise(rows: list[dict[str, Any]]) -> list[str]:
    """A line on each kind of noise that no data speaks of."""
    told = []
    if any(row["draws"] == 1 and row["shots"] for row in rows):
        told.append("shots: one draw of them, so the differences are of these very shots")
    if any(1 in row["trainings"] for row in rows):
        told.append("seeds: one training on a side, so the differences are of these very checkpoints")
    return told
