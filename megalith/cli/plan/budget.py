"""The verb `plan budget`: the model and tokens that FLOPs or hours buy, by each law."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Overrides
from megalith.cli.tables import counted, print_json
from megalith.console import human_count, human_seconds, note, show, table
from megalith.verbs.results import Budget, LawRow


@verb
def plan_budget(
    flops: Annotated[float | None, typer.Option("--flops", min=1.0, max=1e40, help="Training FLOPs.")] = None,
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="Take the budget from this recipe.")] = None,
    overrides: Overrides = None,
    gpu_hours: Annotated[
        float | None, typer.Option("--gpu-hours", metavar="H", max=1e15, help="Hours of one GPU of --cluster, in all.")
    ] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Such as selene.")] = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=1_000_000, help="Default: as many as end in about a month.")
    ] = None,
    law: Annotated[
        list[str] | None, typer.Option("--law", metavar="LAW.json", help="A file of `scaling fit`; may be repeated.")
    ] = None,
    tokens_available: Annotated[
        float | None,
        typer.Option("--tokens-available", metavar="U", help="All the tokens there are: more would repeat."),
    ] = None,
    inference_tokens: Annotated[
        float | None,
        typer.Option("--inference-tokens", metavar="T", help="That the model will read and write in its life."),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A run under way: its loss at the end, when it may stop."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute-optimal parameters, tokens and loss for FLOPs, or for GPU-hours on a cluster, by each law."""
    from megalith import verbs

    found = verbs.plan_budget(
        flops, recipe, overrides=overrides or (), gpu_hours=gpu_hours, cluster=cluster, nodes=nodes, law=law or (),
        tokens_available=tokens_available, inference_tokens=inference_tokens, from_run=from_run,
    )  # fmt: skip
    if as_json:
        print_json(found)
    elif "run" in found:
        _show_run(found["run"])
    else:
        _show(found)
        _show_deviations(found)


def _show(found: Budget) -> None:
    hours = "gpu_hours" in found
    headings = ["law", *(["FLOPs", "MFU"] if hours else []), "parameters", "tokens", "ratio", "loss"]
    rows = [
        [law["law"], *([f"{law['flops']:.3g}", f"{law['mfu']:.0%}"] if hours else []), *_row(law)]
        for law in found["laws"]
    ]
    if hours:
        title = (
            f"What {human_count(found['gpu_hours'])} GPU-hours on {counted(found['nodes'], 'node')} of "
            f"{found['cluster']} ({found['accelerators']:,} {found['accelerator']}) buy"
        )
    else:
        asked = f", which are {human_seconds(3600 * found['hours'])} here" if "hours" in found else ""
        title = f"Compute-optimal for {found['flops']:.3g} FLOPs{asked}"
    show(table(title, headings, rows))
    if hours:
        note(f"{found['days']:.1f} days; the MFU is that of the best layout of a model of that size, as predicted")
    for law in found["laws"]:
        beyond = "; smaller than any model that it was fitted on" if law["extrapolated"] else ""
        note(f"{law['law']}: {law['intervals_from']}{beyond}{'; ' + law['loss_note'] if law['loss_note'] else ''}")


def _show_deviations(found: Budget) -> None:
    """Tokens that must repeat, and inference: a table each, where asked for."""
    repeating = [(law, one) for law in found["laws"] if (one := law.get("repetition")) is not None]
    if repeating:
        rows = [
            (law["law"], f"{one['epochs']:.3g}", f"{one['loss']:.3f}", human_count(one["best"]["parameters"]),
             f"{one['best']['epochs']:.3g}", f"{one['best']['loss']:.3f}", f"{one['pays_until']:.3g}")
            for law, one in repeating
        ]  # fmt: skip
        available = human_count(repeating[0][1]["tokens_available"])
        headings = ("law", "epochs", "loss", "best parameters", "epochs", "loss", "half worth after epochs")
        show(table(f"With {available} tokens, which repeat", headings, rows))
    serving = [(law, one) for law in found["laws"] if (one := law.get("inference")) is not None]
    if serving:
        rows = [
            (law["law"], human_count(one["parameters"]), human_count(one["tokens"]), f"{one['loss']:.3f}",
             f"{one['training_flops']:.3g}", f"{one['lifetime_flops']:.3g}", f"{one['saving']:.1%}")
            for law, one in serving
        ]  # fmt: skip
        served = human_count(serving[0][1]["inference_tokens"])
        headings = ("law", "parameters", "tokens", "loss", "training FLOPs", "with inference", "saved")
        show(table(f"The same loss at the least FLOPs, {served} tokens of inference among them", headings, rows))


def _show_run(run: Mapping[str, Any]) -> None:
    low, high = run["interval"]
    rows = [
        ("steps", f"{run['steps_made']:,} of {run['steps']:,}"),
        ("training loss now", f"{run['loss_now']:.4f}"),
        ("at the end", f"{run['loss_at_end']:.4f}  ({low:.4f} … {high:.4f} at {run['level']:.0%})"),
        ("still to gain", f"{run['still_to_gain']:.2%}"),
        (f"the rest gains under {run['worth']:.1%}", f"after {human_count(run['may_stop_at_tokens'])} tokens"),
    ]
    show(table("A run under way", ("figure", "value"), rows))


def _row(law: LawRow) -> list[str]:
    intervals = law["intervals"]
    loss = "–" if law["loss"] is None else f"{law['loss']:.3f}"
    if intervals["loss"] is not None:
        loss += f"\n{intervals['loss'][0]:.3f} … {intervals['loss'][1]:.3f}"
    counts = [_with_interval(law[name], intervals[name]) for name in ("parameters", "tokens")]
    return [*counts, f"{law['tokens'] / law['parameters']:.1f}", loss]


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return human_count(value)
    return f"{human_count(value)}\n{human_count(interval[0])} … {human_count(interval[1])}"
