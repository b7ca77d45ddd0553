"""The verbs of planning and scaling, put together: `plan ranks`, `plan dryrun` and `scaling fit` stand here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.calibration import plan_calibrate, plan_validate
from megalith.cli.help import Sections
from megalith.cli.planning_budget import plan_budget
from megalith.cli.planning_curation import plan_curation
from megalith.cli.planning_layout import plan_layout
from megalith.cli.shared import Json, Overrides, RecipeName, cell, counted, not_yet, print_json, verb
from megalith.cli.timeline import plan_timeline
from megalith.console import human_bytes, human_seconds, note, show, table
from megalith.recipe import load_recipe

app = typer.Typer(cls=Sections, no_args_is_help=True, help="What it will cost, before it is spent.")
scaling_app = typer.Typer(cls=Sections, no_args_is_help=True, help="Scaling laws from runs.")
app.command("layout")(plan_layout)
app.command("budget")(plan_budget)
app.command("curation")(plan_curation)
app.command("timeline")(plan_timeline)
app.command("validate")(plan_validate)
app.command("calibrate")(plan_calibrate)


@app.command("ranks")
@verb
def plan_ranks(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Which node holds which ranks, and what they send over which links in a step."""
    from megalith.planning.rank_map import fold_nodes, fold_traffic, ranks

    loaded, _ = load_recipe(recipe, overrides or ())
    found = ranks(loaded)
    if as_json:
        print_json(found)
        return
    keys = ("node", "rank", "pipeline", "data", "tensor")
    nodes = [[node[key] if node else "…" for key in keys] for node in fold_nodes(found)]
    show(table(f"Ranks of {loaded.name}", ("node", "ranks", *keys[2:]), nodes))
    traffic = ("axis", "what", "collective", "stages", "ranks", "times", "payload", "sent", "links", "alone")
    show(table("What a rank sends in a step", traffic, [_traffic_row(row) for row in fold_traffic(found)], left=3))
    links = ("links", "for", "span", "rate of each", "sent at most", "alone")
    show(table("The links, at their datasheet rate", links, [_tier_row(row) for row in found["tiers"]], left=2))
    layout = " × ".join(f"{axis} {found['layout'][axis]}" for axis in keys[2:])
    note(
        f"{counted(found['world'], 'rank')} ({layout}) on {counted(found['nodes'], 'node')} of "
        f"{found['accelerators_per_node']} {found['accelerator']}"
    )
    for line in found["notes"]:
        note(line)


def _traffic_row(row: dict[str, Any]) -> list[str]:
    figures = [row["pipeline"], str(row["group_size"]), f"{row['count']:,}"]
    sent = [human_bytes(row["payload_bytes"]), human_bytes(row["wire_bytes"])]
    return [row["axis"], row["what"], row["collective"], *figures, *sent, row["tier"], _seconds_cell(row["seconds"])]


def _tier_row(row: dict[str, Any]) -> list[str]:
    rate = "–" if row["bytes_per_second"] is None else f"{human_bytes(row['bytes_per_second'])}/s"
    sent, alone = human_bytes(row["wire_bytes"]), _seconds_cell(row["seconds"])
    return [row["name"], ", ".join(row["axes"]) or "–", f"{row['accelerators']:,}", rate, sent, alone]


def _seconds_cell(seconds: float | None) -> str:
    return "–" if seconds is None else human_seconds(seconds)


@app.command("dryrun")
@verb
def plan_dryrun(
    recipe: RecipeName,
    overrides: Overrides = None,
    rank: Annotated[list[int] | None, typer.Option("--rank", help="A rank to take; may be repeated.")] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Take the first, the middle and the last stage.")] = False,
    as_json: Json = False,
) -> None:
    """The real training step of any rank of the job, on tensors without memory: its peak, and what it sends."""
    from megalith.planning.dryrun import dryrun

    loaded, _ = load_recipe(recipe, overrides or ())
    found = dryrun(loaded, rank or (), stages=stages)
    if as_json:
        print_json(found)
        return
    kinds = [kind for kind in found["ranks"][0]["peak"] if any(row["peak"][kind] for row in found["ranks"])]
    rows = [_memory_row(row, kinds) for row in found["ranks"]]
    show(table(f"A step of {loaded.name}, at the peak of its memory",
               ("rank", "stage", "layers", "parameters", *kinds, "peak", "fits"), rows, left=0))  # fmt: skip
    sent = [_message_row(row["rank"], message) for row in found["ranks"] for message in row["collectives"]]
    headings = ("rank", "axis", "what", "collective", "pass", "ranks", "links", "times", "payload")
    show(table("What these ranks send in a step", headings, sent, left=5))
    for line in _dryrun_notes(found):
        note(line)


def _memory_row(row: dict[str, Any], kinds: Sequence[str]) -> list[str]:
    layers = f"{row['layers'][0]}–{row['layers'][-1]}" if len(row["stages"]) == 1 else str(len(row["layers"]))
    stages = ", ".join(map(str, row["stages"]))
    figures = [f"{row['parameters']:,}", *(human_bytes(row["peak"][kind]) for kind in kinds)]
    return [str(row["rank"]), stages, layers, *figures, human_bytes(row["peak_bytes"]), "yes" if row["fits"] else "no"]


def _message_row(rank: int, row: dict[str, Any]) -> list[str]:
    words = [row["axis"], row["what"], row["collective"], row["pass"]]
    figures = [str(row["group_size"]), row["tier"], f"{row['count']:,}", human_bytes(row["payload_bytes"])]
    return [str(rank), *words, *figures]


def _dryrun_notes(found: dict[str, Any]) -> Iterator[str]:
    world = " × ".join(f"{axis} {size}" for axis, size in found["layout"].items())
    rounds = counted(found["micro_batches"], "micro-batch", "micro-batches")
    yield f"{counted(found['world'], 'rank')} ({world}), {rounds} a rank and step"
    stages, model = found["parameters"], found["parameters_by_arithmetic"]
    yield f"all stages together hold {stages:,} parameters; the model has {model:,}"
    for row in found["ranks"]:
        spare = human_bytes(abs(row["spare_bytes"]))
        verdict = f"fits, with {spare} to spare" if row["fits"] else f"does not fit: {spare} too much"
        yield f"rank {row['rank']}: {human_bytes(row['peak_bytes'])} {verdict} ({found['accelerator']})"
        per_layer = ", ".join(f"{count:g} {when}" for when, count in row["all_reduces_per_layer"].items() if count)
        if per_layer:
            yield f"rank {row['rank']}: all-reduces of a layer for a micro-batch: {per_layer}"
        if row["micro_batches_run"] < row["micro_batches"]:
            yield (
                f"rank {row['rank']}: of {row['micro_batches']} micro-batches as many were run as fill the pipeline "
                f"here, {row['micro_batches_run']}; counts are scaled"
            )
    yield from found["notes"]


@scaling_app.command("fit")
@verb
def scaling_fit(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.csv", help="Columns: parameters, tokens or flops, loss.")],
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^α + B/D^β (Chinchilla's approach 3) to a table of runs."""
    from megalith.scaling import fit

    found = fit(runs)
    if as_json:
        print_json(found)
    else:
        rows = [(key, cell(value)) for key, value in found.items() if not isinstance(value, dict | list)]
        show(table(f"Approach 3 on {runs}", ("figure", "value"), rows))


not_yet(
    scaling_app,
    "study",
    "`scaling study` (a sweep of small runs) is not built yet; `scaling fit` reads a table of runs.",
)
