"""The verb `plan curation`: CPU-hours, disk and memory of curating a corpus."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import human_bytes, human_seconds, note, show, table

if TYPE_CHECKING:
    from megalith.planning.curation import Estimate


@verb
def plan_curation(
    text: Annotated[float, typer.Option("--text", metavar="BYTES", max=1e21, help="Of JSON lines, unpacked.")] = 0.0,
    warc: Annotated[float, typer.Option("--warc", metavar="BYTES", max=1e21, help="Of HTML in WARC, unpacked.")] = 0.0,
    documents: Annotated[
        float | None,
        typer.Option("--documents", max=1e18, help="Default: what the measured corpora have in as many bytes."),
    ] = None,
    cores: Annotated[int, typer.Option("--cores", min=1, max=10_000_000, help="To share the work.")] = 64,
    as_json: Json = False,
) -> None:
    """CPU-hours, disk and memory that curating a corpus takes, extrapolated from small runs."""
    from megalith import verbs

    cost = verbs.plan_curation(text=text, warc=warc, documents=documents)
    if as_json:
        print_json(asdict(cost) | {"cores": cores, "hours": cost.hours_on(cores)})
        return
    rows = [
        [f"CPU time, of which the driver's {_cpu_time(cost.serial_hours)}", *_three(cost.cpu_hours, _cpu_time)],
        ["on disk at most", *_three(cost.disk_bytes, human_bytes)],
        ["shuffled", *_three(cost.shuffled_bytes, human_bytes)],
        ["memory of a worker", *_three(cost.worker_memory_bytes, human_bytes)],
        ["memory of the driver", *_three(cost.driver_memory_bytes, human_bytes)],
    ]
    size = f"{human_bytes(text + warc)}, {counted(cost.documents, 'document')}"
    show(table(f"Curating {size}", ("", "", "from", "to"), rows))
    whole = cost.cpu_hours.value * 3600
    steps = [
        (name, _cpu_time(seconds / 3600), f"{seconds / whole:.1%}")
        for name, seconds in sorted(cost.steps.items(), key=lambda step: -step[1])
        if seconds
    ]
    show(table("CPU time by step", ("step", "CPU time", "share"), steps))
    for line in (f"{human_seconds(cost.hours_on(cores) * 3600)} on {counted(cores, 'core')}", *cost.notes):
        note(line)


def _cpu_time(hours: float) -> str:
    """From an hour on CPU-hours, as they are paid for."""
    return f"{hours:,.1f} h" if hours >= 1 else human_seconds(hours * 3600)


def _three(estimate: "Estimate", written: Callable[[float], str]) -> list[str]:
    return [written(number) for number in (estimate.value, estimate.low, estimate.high)]
