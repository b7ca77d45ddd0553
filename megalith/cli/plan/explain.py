"""The verb `plan explain`: where a layout's step goes, from ideal FLOPs to seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Constants, Json, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import human_bytes, human_seconds, note, show, table


@verb
def plan_explain(
    recipe: RecipeName,
    overrides: Overrides = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside",
            metavar="'KEY=VALUE ...'",
            help="Another layout beside it: overrides with spaces between them, or best; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A .svg or .html file to draw it in.")
    ] = None,
    constants: Constants = None,
    as_json: Json = False,
) -> None:
    """Where a layout's step goes: ideal FLOPs, then each loss, up to the predicted seconds."""
    from megalith import verbs

    found = verbs.plan_explain(
        recipe, overrides=overrides or (), beside=beside or (), output=output, constants=constants
    )
    if as_json:
        print_json(found)
        return
    layouts = found["layouts"]
    names = list(dict.fromkeys(part["name"] for layout in layouts for part in layout["parts"]))
    by_name = [{part["name"]: part for part in layout["parts"]} for layout in layouts]
    rows = [[part, *[cell for own in by_name for cell in _cells(own.get(part))], _why(by_name, part)] for part in names]
    total = [cell for layout in layouts for cell in (human_seconds(layout["step_seconds"]), "100.0%")]
    headings = ["part", *[cell for number in range(len(layouts)) for cell in (_heading(number, len(layouts)), "share")]]
    made = table(f"Where a step of {found['recipe']} goes", [*headings, ""], [*rows, ["the step", *total, ""]])
    made.columns[-1].justify = "left"
    show(made)
    for number, layout in enumerate(layouts):
        note(f"{_heading(number, len(layouts))}: {_told(layout)}")
    if found["file"]:
        note(f"drawn in {found['file']}")


def _heading(number: int, layouts: int) -> str:
    return "time" if layouts == 1 else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 26]


def _cells(part: Mapping[str, Any] | None) -> tuple[str, str]:
    from megalith.planning.waterfall.picture import signed

    return ("–", "–") if part is None else (signed(part["seconds"]), f"{part['share']:.1%}")


def _why(by_name: list[dict[str, Any]], part: str) -> str:
    return next((str(own[part]["why"]) for own in by_name if part in own), "")


def _told(layout: Mapping[str, Any]) -> str:
    low, high = (human_seconds(end) for end in layout["interval"])
    settings = " ".join(f"{key}={value}" for key, value in layout["layout"].items() if value not in (None, False))
    return (
        f"{human_seconds(layout['step_seconds'])} ({low} to {high}), {layout['tflops_per_gpu']:.0f} TFLOP/s per GPU, "
        f"{human_bytes(layout['memory_bytes'])} of {human_bytes(layout['memory_of_accelerator_bytes'])}; {settings}"
    )
