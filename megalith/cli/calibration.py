"""The verbs `plan validate` and `plan calibrate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.measured import calibrate_this_machine
from megalith.cli.shared import Json, check_file, counted, print_json, verb
from megalith.console import note, show, table
from megalith.errors import InputError, UnsupportedError

TableFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[TABLE.csv]",
        show_default=False,
        help="Measured runs, one a line: see docs/verbs/validate.md. Default: published runs of MT-NLG 530B.",
    ),
]


@verb
def plan_validate(
    runs: TableFile = None,
    constants: Annotated[
        Path | None, typer.Option("--constants", help="A file of `plan calibrate`. Default: the shipped constants.")
    ] = None,
    no_hold_out: Annotated[
        bool, typer.Option("--no-hold-out", help="Only with the constants as they are: without refits, in seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predictions against a table of measured runs, and what is predicted of a dataset by the others alone."""
    from megalith.planning.calibration.validate import validate

    found = validate(runs, constants, hold_out=not no_hold_out)
    if as_json:
        print_json(found)
        return
    headings = ["dataset", "rows", "fitted", "error", "bias", "rank", "within"]
    rows = [_time_row(one) for one in found["datasets"]]
    if not no_hold_out:
        headings += ["held out: error", "bias", "within"]
        rows = [[*row, *_held_out(one)] for row, one in zip(rows, found["datasets"], strict=True)]
    show(table(f"Step time: {found['constants']['from']} constants", headings, rows))
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
    return ["–"] * 3 if held is None else [_percent(held["mape"]), _signed(held["bias"]), _percent(held["coverage"], 0)]


def _figures(one: Mapping[str, Any]) -> list[str]:
    ranks = one["rank_correlation_of_speed"]
    return [
        _percent(one["mape"]),
        _signed(one["bias"]),
        "–" if ranks is None else f"{ranks:.2f}",
        _percent(one["coverage"], 0),
    ]


def _memory_row(one: Mapping[str, Any]) -> list[str]:
    foreseen = f"{one['foreseen']} of {one['out_of_memory']}" if one["out_of_memory"] else "–"
    errors = [_percent(one["mape"]), _signed(one["bias"])] if one["rows"] else ["–", "–"]
    return [one["dataset"], str(one["rows"]), *errors, foreseen, f"{one['false_alarms']} of {one['ran']}"]


def _notes(found: Mapping[str, Any], *, held_out: bool) -> list[str]:
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
            f"{_percent(half['mape'])} ± {_percent(half['standard_deviation'])} over {counted(half['seeds'], 'draw')}"
        )
    if found["skipped"]:
        rows = counted(len(found["skipped"]), "row is", "rows are")
        lines.append(f"{rows} not predicted: {_reasons(found['skipped'])}")
    return lines


def _reasons(skipped: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{why}" for why in dict.fromkeys(one["why"] for one in skipped))


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def _signed(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:+.1f} %"


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
    if memory:
        _calibrate_memory(runs, output or Path("memory.json"), others=measure or bool(hold_out), as_json=as_json)
        return
    if measure or (runs is not None and runs.is_dir()):
        _refuse_tables(runs, hold_out, measure=measure)
        output = output or Path("here.json")
        check_file(output)
        calibrate_this_machine(recipe if measure else None, runs, output, as_json=as_json)
        return
    if runs is None:
        raise InputError(
            "there is nothing to calibrate with.",
            mend="Pass a TABLE.csv of measured runs, a folder of runs that have ended here, or --measure.",
        )
    from megalith.planning.calibration.calibrate import calibrate

    output = output or Path("constants.json")
    check_file(output)
    found = calibrate(runs, output, hold_out or ())
    if as_json:
        print_json(found)
        return
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
        note(f"{one['generation']}: error of rows held out {_percent(one['residuals']['mape'])}; fitted: {fitted}")
        if left:
            note(f"{one['generation']}: not fitted: {left}")
    note(f"written to {output}")


def _calibrate_memory(runs: Path | None, output: Path, *, others: bool, as_json: bool) -> None:
    if runs is None or runs.is_dir() or others:
        raise InputError(
            "--memory takes a table of runs with mem_gb, and neither --measure nor --hold-out.",
            where="--memory",
            mend="Use `plan calibrate TABLE.csv --memory`.",
        )
    from megalith.planning.calibration.fit_memory import calibrate_memory

    check_file(output)
    found = calibrate_memory(runs, output)
    if as_json:
        print_json(found)
        return
    rows = [
        (stack, meter, f"{line['share']:.3f}", f"{line['bytes'] / 1e9:+.2f} GB", f"± {_percent(line['deviation'])}")
        for stack, lines in found["constants"].items()
        for meter, line in lines.items()
    ]
    show(table("Memory: figure = share × counted + bytes", ("stack", "meter", "share", "bytes", "90 % within"), rows))
    note(
        f"{counted(found['rows'], 'row')}; error {_percent(found['mape'])}, of rows held out "
        f"{_percent(found['held_out_mape'])}"
    )
    note(f"written to {output}")


def _refuse_tables(runs: Path | None, hold_out: list[str] | None, *, measure: bool) -> None:
    """Raise UnsupportedError where what belongs to a table of runs stands beside a measurement of this machine."""
    if measure and runs is not None and not runs.is_dir():
        raise UnsupportedError(
            "a measurement of this machine takes no table of runs.",
            where=str(runs),
            mend="Leave it out, or --measure; a folder of runs that have ended here may stand beside --measure.",
        )
    if hold_out:
        raise UnsupportedError("this machine has no datasets.", where="--hold-out", mend="Leave it out.")
