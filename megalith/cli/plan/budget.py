"""The verb `plan budget`: the model and tokens that FLOPs or hours buy, by each law."""

from collections.abc import Sequence
from typing import Annotated

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
    as_json: Json = False,
) -> None:
    """Compute-optimal parameters, tokens and loss for FLOPs, or for GPU-hours on a cluster, by each law."""
    from megalith import verbs

    found = verbs.plan_budget(
        flops, recipe, overrides=overrides or (), gpu_hours=gpu_hours, cluster=cluster, nodes=nodes
    )
    if as_json:
        print_json(found)
    else:
        _show(found)


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
