"""The verb `plan validate`: predictions against measured runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Constants, Json
from megalith.cli.tables import counted, percent, print_json, signed
from megalith.console import note, show, table
from megalith.verbs.results import Validation

TableFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="TABLE.csv",
        show_default=False,
        help="Measured runs, one a line: see docs/verbs/validate.md. Default: published runs of MT-NLG 530B.",
    ),
]


@verb
def plan_validate(
    runs: TableFile = None,
    constants: Constants = None,
    no_hold_out: Annotated[
        bool, typer.Option("--no-hold-out", help="Only with the constants as they are: without refits, in seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predictions against a table of measured runs, and what is predicted of a dataset by the others alone."""
    from megalith import verbs

    found = verbs.plan_validate(runs, constants=constants, hold_out=not no_hold_out)
    if as_json:
        print_json(found)
        return
    headings = ["dataset", "rows", "fitted", "error", "bias", "rank", "within"]
    rows = [_time_row(one) for one in found["datasets"]]
    if not no_hold_out:
        headings += ["held out: error", "bias", "within"]
        rows = [[*row, *_held_out(one)] for row, one in zip(rows, found["datasets"], strict=True)]
    show(table(f"Step time: {found['constants']['from']} constants", headings, rows))
    if len(found["generations"]) > 1:
        kinds = [[one["generation"], str(one["rows"]), *_figures(one)] for one in found["generations"]]
        headings = ["accelerators", "rows", "error", "bias", "rank", "within"]
        if not no_hold_out:
            headings += ["held out: error", "bias", "within"]
            kinds = [[*row, *_held_out(one)] for row, one in zip(kinds, found["generations"], strict=True)]
        show(table("By accelerator", headings, kinds))
    if found["stacks"]:
        models = [[f"{one['stack']}, {one['generation']}", str(one["rows"]), *_figures(one)] for one in found["stacks"]]
        show(table("Each model held out", ("software", "rows", "error", "bias", "rank", "within"), models))
    memory = [_memory_row(one) for one in found["memory"] if one["rows"] or one["out_of_memory"] or one["ran"]]
    if memory:
        show(table("Memory", ("dataset", "rows", "error", "bias", "out of memory, foreseen", "ran, refused"), memory))
    for line in _notes(found, held_out=not no_hold_out):
        note(line)


def _time_row(one: Mapping[str, Any]) -> list[str]:
    return [one["dataset"], str(one["rows"]), "yes" if one["seen"] else "no", *_figures(one)]


def _held_out(one: Mapping[str, Any]) -> list[str]:
    held = one["held_out"]
    return ["–"] * 3 if held is None else [percent(held["mape"]), signed(held["bias"]), percent(held["coverage"], 0)]


def _figures(one: Mapping[str, Any]) -> list[str]:
    ranks = one["rank_correlation_of_speed"]
    return [
        percent(one["mape"]),
        signed(one["bias"]),
        "–" if ranks is None else f"{ranks:.2f}",
        percent(one["coverage"], 0),
    ]


def _memory_row(one: Mapping[str, Any]) -> list[str]:
    foreseen = f"{one['foreseen']} of {one['out_of_memory']}" if one["out_of_memory"] else "–"
    errors = [percent(one["mape"]), signed(one["bias"])] if one["rows"] else ["–", "–"]
    return [one["dataset"], str(one["rows"]), *errors, foreseen, f"{one['false_alarms']} of {one['ran']}"]


def _notes(found: Validation, *, held_out: bool) -> list[str]:
    lines = [
        "error: mean of |predicted / measured − 1|; rank: Spearman's, of the speed of an accelerator; within: share of "
        "measurements inside the interval, which is to be 80 %",
    ]
    if held_out:
        lines.append("held out: by constants fitted to the table's other datasets, from the priors alone")
    half = found["random_half"]
    if half:
        lines.append(
            f"a random half of {', '.join(half['datasets'])} ({counted(half['rows'], 'row')}), by the other half: "
            f"{percent(half['mape'])} ± {percent(half['standard_deviation'])} over {counted(half['seeds'], 'draw')}"
        )
    if found["skipped"]:
        rows = counted(len(found["skipped"]), "row is", "rows are")
        lines.append(f"{rows} not predicted: {_reasons(found['skipped'])}")
    return lines


def _reasons(skipped: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{why}" for why in dict.fromkeys(one["why"] for one in skipped))
