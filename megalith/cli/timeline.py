"""The verb `plan timeline`. It stands in a file of its own; `plans` takes it into its group:

from megalith.cli.timeline import plan_timeline
app.command("timeline")(plan_timeline)
"""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.shared import Json, Overrides, RecipeName, print_json, verb
from megalith.console import human_bytes, human_seconds, note, show, table
from megalith.recipe import load_recipe


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
    from megalith.planning import timeline

    loaded, _ = load_recipe(recipe, overrides or ())
    given = timeline.given_durations(durations) if durations is not None else None
    steps = timeline.steps_of(loaded, schedule or (), given)
    found = timeline.figures(loaded, steps)
    if output is None and not as_json:
        output = Path("runs") / loaded.name / "timeline"
    files = timeline.write_timeline(output, timeline.title(loaded), steps) if output is not None else []
    if as_json:
        print_json(found | {"files": [str(file) for file in files]})
        return
    headings = ("schedule", "step", "pipeline", "bubble", "bubble by rank", "held", "peak memory")
    show(table(f"A step of {loaded.name}", headings, [_row(row, found["clock"]) for row in found["schedules"]]))
    for row in found["schedules"]:
        if _exceeds(row):
            note(
                f"{row['schedule']} does not fit: its fullest rank holds {human_bytes(max(row['peak_bytes']))}, and an "
                f"accelerator has {human_bytes(row['capacity_bytes'])}"
            )
    note(f"drawn in {', '.join(map(str, files))}")


def _exceeds(row: dict[str, Any]) -> bool:
    return bool(row["peak_bytes"]) and max(row["peak_bytes"]) > (row["capacity_bytes"] or math.inf)


def _peak(row: dict[str, Any]) -> str:
    if not row["peak_bytes"]:
        return "–"
    peak = human_bytes(max(row["peak_bytes"]))
    return f"{peak} > {human_bytes(row['capacity_bytes'])}" if _exceeds(row) else peak


def _row(row: dict[str, Any], clock: str) -> list[str]:
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
