"""This machine as `plan calibrate` and `plan layout --measured` show it: layouts, rates, and runs that correct them."""

from collections.abc import Mapping
from typing import Any

from megalith.cli.tables import counted, signed
from megalith.console import human_bytes, human_seconds, note, show, table


def show_machine(found: Mapping[str, Any]) -> None:
    """Show the measurements, and how runs that have ended here correct them."""
    if "layouts" in found:
        show_layouts(found)
        _show_rates(found)
    if "runs" in found:
        _show_runs(found)


def show_layouts(found: Mapping[str, Any]) -> None:
    """The layouts as blocks predict them, the fastest first."""
    headings = ("processes", "tensor", "pipeline", "data", "ZeRO", "micro-batch", "step", "interval")
    names = ("processes", "tensor", "pipeline", "data", "zero", "micro_batch_size")
    rows = [
        [*(str(row[name]) for name in names), human_seconds(row["step_seconds"]), _interval(row["interval"])]
        for row in found["layouts"]
    ]
    model, machine = found["model"], found["machine"]
    shape = f"{counted(model['num_layers'], 'layer')}, hidden {model['hidden_size']}"
    show(table(f"{machine['cpu']}, {counted(machine['cores'], 'core')}: {shape}", headings, rows, left=0))


def _show_rates(found: Mapping[str, Any]) -> None:
    rates = [(name, f"{value:.3g}") for name, value in found["rates"].items()]
    show(table("Rates, by type and (M, K) × (K, N)", ("of", "value"), rows=rates))
    copied = human_bytes(found["rates"]["copied_bytes_per_second"])
    low, high = found["machine"]["load"]
    note(
        f"{counted(found['blocks'], 'block')} in {human_seconds(found['measuring_seconds'])}; copies {copied}/s; "
        f"load {low:.1f} before, {high:.1f} after"
    )


def _show_runs(found: Mapping[str, Any]) -> None:
    headings = ("run", "planned", "by blocks", "measured", "in sample", "held out", "why not")
    rows = [
        [
            row["run"],
            human_seconds(row["planned_seconds"]),
            "–" if row["predicted_seconds"] is None else human_seconds(row["predicted_seconds"]),
            human_seconds(row["measured_seconds"]),
            signed(row.get("in_sample")),
            signed(row.get("held_out")),
            row["why_not"] or "",
        ]
        for row in found["runs"]
    ]
    show(table("Runs: measured over what the blocks predict", headings, rows, left=1))
    told = found["correction"]
    if told:
        low, high = told["interval"]
        note(
            f"predictions are multiplied by {told['factor']:.3f} ({counted(told['runs'], 'run')}); the next run lies "
            f"between {low:.2f} and {high:.2f} with {told['coverage']:.0%}"
        )
    else:
        note("none of these runs says anything of this measurement; it stays as it is.")


def _interval(bounds: tuple[float, float]) -> str:
    return " … ".join(human_seconds(bound) for bound in bounds)
