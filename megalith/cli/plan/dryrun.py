"""The verb `plan dryrun`: the real step on tensors without memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Overrides, RecipeName
from megalith.cli.tables import counted, print_json
from megalith.console import human_bytes, note, show, table
from megalith.recipe import load_recipe
from megalith.verbs.results import DryRun


@verb
def plan_dryrun(
    recipe: RecipeName,
    overrides: Overrides = None,
    rank: Annotated[list[int] | None, typer.Option("--rank", help="A rank to take; may be repeated.")] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Take the first, the middle and the last stage.")] = False,
    as_json: Json = False,
) -> None:
    """The real training step of any rank of the job, on tensors without memory: its peak, and what it sends."""
    from megalith import verbs

    loaded, _ = load_recipe(recipe, overrides or ())
    found = verbs.plan_dryrun(loaded, rank=rank or (), stages=stages)
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


def _memory_row(row: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    layers = f"{row['layers'][0]}–{row['layers'][-1]}" if len(row["stages"]) == 1 else str(len(row["layers"]))
    stages = ", ".join(map(str, row["stages"]))
    figures = [f"{row['parameters']:,}", *(human_bytes(row["peak"][kind]) for kind in kinds)]
    return [str(row["rank"]), stages, layers, *figures, human_bytes(row["peak_bytes"]), "yes" if row["fits"] else "no"]


def _message_row(rank: int, row: Mapping[str, Any]) -> list[str]:
    words = [row["axis"], row["what"], row["collective"], row["pass"]]
    figures = [str(row["group_size"]), row["tier"], f"{row['count']:,}", human_bytes(row["payload_bytes"])]
    return [str(rank), *words, *figures]


def _host_words(host: Mapping[str, Any]) -> str:
    waits, copies, wide = host["waits"], host["copies"], host["fp32_gathers"]
    places = ", ".join(f"{place} {count}" for place, count in waits.items())
    where = f" ({places})" if places else ""
    return (
        f"the host waits {counted(sum(waits.values()), 'time', 'times')} a step{where}, copies "
        f"{counted(copies['count'], 'tensor', 'tensors')} to the device ({human_bytes(copies['payload_bytes'])}), and "
        f"{counted(wide['count'], 'gather is', 'gathers are')} in fp32 ({human_bytes(wide['payload_bytes'])})"
    )


def _dryrun_notes(found: DryRun) -> Iterator[str]:
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
        yield f"rank {row['rank']}: {_host_words(row['host'])}"
        if row["micro_batches_run"] < row["micro_batches"]:
            yield (
                f"rank {row['rank']}: of {row['micro_batches']} micro-batches as many were run as fill the pipeline "
                f"here, {row['micro_batches_run']}; counts are scaled"
            )
    yield from found["notes"]
