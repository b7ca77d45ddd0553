"""The verb `plan calibrate`: constants of the cost model from measured runs, or this machine measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.plan.this_machine import show_machine
from megalith.cli.tables import counted, percent, print_json
from megalith.console import note, show, table


@verb
def plan_calibrate(
    runs: Annotated[
        Path | None, typer.Argument(metavar="TABLE.csv|RUNS", help="Measured runs, or a folder of Megalith's own.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write. Default: constants.json, or here.json of this machine."
        ),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine, in blocks of --recipe.")] = False,
    recipe: Annotated[str, typer.Option("--recipe", help="With --measure: whose width is measured.")] = "quickstart",
    hold_out: Annotated[
        list[str] | None, typer.Option("--hold-out", help="A dataset that is not to be fitted; may be repeated.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Fit the memory model's constants, to the rows of TABLE.csv with mem_gb.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit the cost model's constants to measured runs (`plan validate --constants`), or measure this machine."""
    from megalith import verbs

    found = verbs.plan_calibrate(
        runs, output=output, measure=measure, recipe=recipe, hold_out=hold_out or (), memory=memory
    )
    if as_json:
        print_json(found)
    elif memory:
        _show_memory(found)
        note(f"written to {output or 'memory.json'}")
    elif "sets" in found:
        _show_constants(found)
        note(f"written to {output or 'constants.json'}")
    else:
        show_machine(found)
        note(f"written to {found['path']}")


def _show_memory(found: Mapping[str, Any]) -> None:
    rows = [
        (stack, meter, f"{line['share']:.3f}", f"{line['bytes'] / 1e9:+.2f} GB", f"± {percent(line['deviation'])}")
        for stack, lines in found["constants"].items()
        for meter, line in lines.items()
    ]
    show(table("Memory: figure = share × counted + bytes", ("stack", "meter", "share", "bytes", "90 % within"), rows))
    note(
        f"{counted(found['rows'], 'row')}; error {percent(found['mape'])}, of rows held out "
        f"{percent(found['held_out_mape'])}"
    )


def _show_constants(found: Mapping[str, Any]) -> None:
    for one in found["sets"]:
        rows = [
            (name, f"{entry['value']:.4g}", f"{entry['prior']:.4g}", entry["unit"])
            for name, entry in one["constants"].items()
        ]
        rows += [
            (f"time under {stack}", f"{entry['multiplier']:.4g}", "1", f"multiple, {counted(entry['rows'], 'row')}")
            for stack, entry in one["stacks"].items()
        ]
        show(table(f"Constants of {one['generation']}", ("constant", "fitted", "prior", "unit"), rows))
        fitted = ", ".join(f"{name} ({rows})" for name, rows in one["fitted"].items())
        left = ", ".join(f"{name} ({entry['why']})" for name, entry in one["held_out"].items())
        note(f"{one['generation']}: error of rows held out {percent(one['residuals']['mape'])}; fitted: {fitted}")
        if left:
            note(f"{one['generation']}: not fitted: {left}")
