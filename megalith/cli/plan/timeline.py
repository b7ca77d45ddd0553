"""The verb `plan timeline`: one training step drawn."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import human_bytes, human_seconds, note, show, table
from megalith.recipe import load_recipe
from megalith.verbs.results import ScheduleRow


@verb
def plan_timeline(
    recipe: RecipeName,
    overrides: Overrides = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option("--schedule", help="A schedule's name or CSV file in place of the recipe's; may be repeated."),
    ] = None,
    durations: Annotated[
        str | None,
        typer.Option(
            "--durations",
            metavar="F,I,W[,SEND]",
            help="Milliseconds of a rank's forward, input and weight gradient, and of a send, in place of predicted "
            "ones; or unit.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .png, .svg, .html or .json (trace) file, or a directory for all four. "
                     "Default: runs/NAME/timeline; with --json, none."),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """One training step drawn: who computes, sends and waits when, and what each rank holds."""
    from megalith import verbs

    loaded, _ = load_recipe(recipe, overrides or ())
    if output is None and not as_json:
        output = Path("runs") / loaded.name / "timeline"
    found = verbs.plan_timeline(loaded, schedule=schedule or (), durations=durations, output=output)
    if as_json:
        print_json(found)
        return
    headings = ("schedule", "step", "pipeline", "bubble", "bubble by rank", "held", "peak memory")
    show(table(f"A step of {loaded.name}", headings, [_row(row, found["clock"]) for row in found["schedules"]]))
    for row in found["schedules"]:
        peak, capacity = max(row["peak_bytes"] or (0.0,)), row["capacity_bytes"]
        if capacity and peak > capacity:
            note(
                f"{row['schedule']} does not fit: its fullest rank holds {human_bytes(peak)}, and an accelerator has "
                f"{human_bytes(capacity)}"
            )
    note(f"drawn in {', '.join(found['files'])}")


def _peak(row: ScheduleRow) -> str:
    if not row["peak_bytes"]:
        return "–"
    peak, capacity = max(row["peak_bytes"]), row["capacity_bytes"]
    return f"{human_bytes(peak)} > {human_bytes(capacity)}" if capacity and peak > capacity else human_bytes(peak)


def _row(row: ScheduleRow, clock: str) -> list[str]:
    def time(value: float) -> str:
        return human_seconds(value) if clock == "seconds" else f"{value:.4g} forwards"

    low, high = min(row["bubble_fractions"]), max(row["bubble_fractions"])
    held = max(row["in_flight"])
    return [
        row["schedule"],
        time(row["step_seconds"]),
        time(row["pipeline_seconds"]),
        f"{100 * row['bubble_fraction']:.1f} %",
        f"{100 * low:.1f} – {100 * high:.1f} %",
        f"{held} × 1/{row['virtual_stages']}" if row["virtual_stages"] > 1 else str(held),
        _peak(row),
    ]
