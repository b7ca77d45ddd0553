"""The verb `plan layout`: the best layout, the run in it, and why the others lost."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from megalith.cli.guard import verb
from megalith.cli.options import Constants, Json, Overrides, RecipeName
from megalith.cli.plan.this_machine import show_layouts
from megalith.cli.tables import counted, print_json
from megalith.console import human_bytes, human_count, human_seconds, note, show, table
from megalith.recipe import load_recipe


@verb
def plan_layout(
    recipe: RecipeName,
    overrides: Overrides = None,
    objective: Annotated[
        Literal["time", "memory", "gpus"],
        typer.Option("--for", help="The shortest step, the least memory, or the fewest GPUs within --deadline."),
    ] = "time",
    deadline: Annotated[
        float | None,
        typer.Option("--deadline", metavar="DAYS", min=0.0, max=1e6, help="The run must be over in so many days."),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", metavar="MONEY", min=0.0, max=1e12, help="Of one GPU for an hour.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the recipe's file says of the layout; overrides are always kept.")
    ] = False,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            metavar="FILE",
            help="Predict layouts on this machine from what `plan calibrate --measure` wrote, and run nothing.",
        ),
    ] = None,
    constants: Constants = None,
    as_json: Json = False,
) -> None:
    """The best layout for the model on the recipe's machines, and why the others lost."""
    from megalith import verbs

    loaded = load_recipe(recipe, overrides or ())[0]
    found = verbs.plan_layout(
        recipe,
        overrides=overrides or (),
        objective=objective,
        deadline=deadline,
        price=price,
        keep=keep,
        measured=measured,
        constants=constants,
    )
    if as_json:
        print_json(found)
    elif measured is not None:
        _show_measured(found)
    elif "cluster" in found:
        _show_cluster(loaded.name, found)
    else:
        _show_local(loaded.name, found)


def _show_measured(found: Mapping[str, Any]) -> None:
    show_layouts(found)
    if found["not_measured"]:
        note(f"{found['not_measured']} more layouts were not measured")


def _show_cluster(name: str, found: Mapping[str, Any]) -> None:
    best = {**found["best"], **found, "kind": "best", "why": "", "step_seconds": found["closed_step_seconds"]}
    others = [row for row in found["runners_up"] if row["kind"] != "change"]
    made = table(
        f"Layouts of {name} on {counted(found['nodes'], 'node')} of {found['cluster']} "
        f"({found['accelerators']:,} {found['accelerator']})",
        ("", "T × P × D", "with", "step", "memory", "why not"),
        [_cluster_row(row) for row in (best, *others)],
        left=3,
    )
    _show_reasons(made)
    changes = [row for row in found["runners_up"] if row["kind"] == "change"]
    made = table(
        "The best with one choice changed",
        ("change", "step", "memory", "why not"),
        [(_changed(row, best), *_cluster_row(row)[-3:]) for row in changes],
    )
    _show_reasons(made)
    show(table("Where the step goes, and what the fullest GPU holds", ("", "time", "share", "", "memory"),
               list(_parts(found)), left=1))  # fmt: skip
    for line in _cluster_notes(found):
        note(line)


def _show_reasons(made: Table) -> None:
    """The last column has words, and what room is left."""
    made.columns[-1].justify = "left"
    for column in made.columns[:-1]:
        column.no_wrap = column.header != "with"
    show(made)


def _cluster_row(row: Mapping[str, Any]) -> list[str]:
    mark = {"layout": "", "change": ""}.get(row["kind"], row["kind"])
    shared = f", C {row['context']}" if row["context"] > 1 else ""
    axes = f"{row['tensor']} × {row['pipeline']} × {row['data']}{shared}"
    figures = [human_seconds(row["step_seconds"]), human_bytes(row["memory_bytes"])]
    return [mark, axes, _settings(row), *figures, row["why"]]


def _settings(row: Mapping[str, Any]) -> str:
    again = "" if row["recompute"] == "none" else f", {_recompute(row)} recompute"
    zero = f", ZeRO {row['zero']}" if row["zero"] else ""
    zero += f"/{row['zero_shard']}" if zero and row["zero_shard"] else ""
    split = ", SP" if row["sequence_parallel"] else ""
    return f"{row['micro_batch_size']} a time, {_schedule(row)}{again}{zero}{split}"


def _schedule(row: Mapping[str, Any]) -> str:
    return f"interleaved ×{row['virtual_stages']}" if row["virtual_stages"] > 1 else str(row["schedule"])


def _recompute(row: Mapping[str, Any]) -> str:
    every = f", 1 in {row['recompute_every']}" if row["recompute"] == "full" and row["recompute_every"] > 1 else ""
    return f"{row['recompute']}{every}"


def _changed(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """The one choice in which a row is not the best."""
    if row["micro_batch_size"] != best["micro_batch_size"]:
        return f"micro-batch {row['micro_batch_size']}"
    if (row["schedule"], row["virtual_stages"]) != (best["schedule"], best["virtual_stages"]):
        return _schedule(row)
    if (row["recompute"], row["recompute_every"]) != (best["recompute"], best["recompute_every"]):
        return f"recompute {_recompute(row)}"
    if row["sequence_parallel"] != best["sequence_parallel"]:
        return "sequence parallel" if row["sequence_parallel"] else "no sequence parallel"
    return f"ZeRO {row['zero']}" + (f" over {row['zero_shard']}" if row["zero_shard"] else "")


def _parts(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Parts of the step and of the memory side by side, the largest first."""
    step = [(name, seconds) for name, seconds in found["parts"].items() if seconds]
    held = [(name, size) for name, size in found["memory"].items() if size]
    step.sort(key=lambda part: -part[1])
    held.sort(key=lambda part: -part[1])
    for number in range(max(len(step), len(held))):
        name, seconds = step[number] if number < len(step) else ("", None)
        share = "" if seconds is None else f"{seconds / found['step_seconds']:.1%}"
        part, size = held[number] if number < len(held) else ("", None)
        yield (
            name,
            "" if seconds is None else human_seconds(seconds),
            share,
            part,
            "" if size is None else human_bytes(size),
        )


def _cluster_notes(found: Mapping[str, Any]) -> Iterator[str]:
    low, high = found["interval"]
    sure = f", {found['coverage']:.0%} of measured steps lie within" if found.get("coverage") else ""
    closed = human_seconds(found["closed_step_seconds"])
    if closed != human_seconds(found["step_seconds"]):
        yield f"rows are compared by the closed form of each schedule ({closed} for the best); the step is played"
    yield (
        f"step {human_seconds(found['step_seconds'])} ({human_seconds(low)} to {human_seconds(high)}{sure}), "
        f"{found['tflops_per_gpu']:.0f} TFLOP/s per GPU ({found['mfu']:.0%} of the peak), bubble "
        f"{found['bubble_fraction']:.1%}"
    )
    yield (
        f"memory {human_bytes(found['memory_bytes'])} of {human_bytes(found['memory_of_accelerator_bytes'])} "
        f"({human_bytes(found['memory_interval'][0])} to {human_bytes(found['memory_interval'][1])})"
    )
    run = found["run"]
    low, high = (seconds / 86400 for seconds in run["seconds_interval"])
    yield (
        f"the run: {human_count(run['tokens'])} tokens in {run['steps']:,} steps, {run['days']:.1f} days "
        f"({low:.1f} to {high:.1f}), {_ramp(run)}{human_count(run['accelerator_hours'])} GPU-hours"
        f"{_energy(run)}{_money(run)}"
    )
    yield from (*run["assumptions"], *found["notes"])
    yield f"to train in it: {' '.join(_overrides(found['best']))}"
    yield (
        f"{found['candidates_considered']:,} candidates, {found['candidates_too_large']:,} of them too large, "
        f"{found['candidates_timed']:,} timed, in {human_seconds(found['search_seconds'])}"
    )


def _overrides(best: Mapping[str, Any]) -> Iterator[str]:
    """The layout as `megalith train` takes it."""
    for name, value in best.items():
        section = "train" if name == "micro_batch_size" else "parallel"
        if value is not None:
            yield f"{section}.{name}={str(value).lower() if isinstance(value, bool) else value}"


def _ramp(run: Mapping[str, Any]) -> str:
    return f"{run['ramp_seconds'] / 86400:.1f} of them before the full batch; " if run["ramp_seconds"] else ""


def _energy(run: Mapping[str, Any]) -> str:
    if run["energy_kwh"] is None:
        return ""
    low, high = (f"{bound / 1000:,.0f}" for bound in run["energy_kwh_interval"])
    return f", {run['energy_kwh'] / 1000:,.0f} MWh ({low} to {high})"


def _money(run: Mapping[str, Any]) -> str:
    if run["money"] is None:
        return ""
    low, high = run["money_interval"]
    return f", {human_count(run['money'])} at that price ({human_count(low)} to {human_count(high)})"


def _show_local(name: str, found: Mapping[str, Any]) -> None:
    headings = (
        "", "tensor", "pipeline", "data", "micro-batch", "threads", "precision", "step", "memory", "why not"
    )  # fmt: skip
    rows = [
        _local_row("best", {**found["best"], **found}, ""),
        *[_local_row("", row, row["why"]) for row in found["runners_up"]],
    ]
    made = table(f"Layouts of {name}", headings, rows)
    made.columns[-1].justify = "left"
    show(made)
    low, high = found["interval"]
    note(
        f"step {human_seconds(found['step_seconds'])} ({human_seconds(low)} to {human_seconds(high)}), "
        f"{found['tflops_per_gpu'] * 1000:.0f} GFLOP/s per process; {found['candidates_considered']} candidates in "
        f"{human_seconds(found['search_seconds'])}"
    )


def _local_row(mark: str, row: Mapping[str, Any], why: str) -> list[str]:
    names = ("tensor", "pipeline", "data", "micro_batch_size", "threads_per_process", "precision")
    figures = [str(row.get(name, "–")) for name in names]
    seconds = "–" if row["step_seconds"] is None else human_seconds(row["step_seconds"])
    held = "–" if row["memory_bytes"] is None else human_bytes(row["memory_bytes"])
    return [mark, *figures, seconds, held, why]
