"""The verb `run`: the whole expedition, or on a cluster its plan and its jobs."""

from typing import TYPE_CHECKING

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Output, Overrides, RecipeName, Source, Yes
from megalith.cli.tables import print_json
from megalith.console import human_bytes, human_count, human_seconds, note, show, table

if TYPE_CHECKING:
    from megalith.submission import Submission


@resuming_verb
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    output: Output = None,
    fresh: Fresh = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """The whole expedition: crawl, curate, tokenize, plan, train, evaluate, audit, report."""
    from megalith import verbs
    from megalith.submission import Submission

    made = verbs.run(recipe, overrides=overrides or (), source=source or (), output=output, fresh=fresh, yes=yes)
    if isinstance(made, Submission):
        _show_submission(made, as_json=as_json)
        return
    if as_json:
        print_json(made.figures)
        return
    from megalith.report import summary_table

    show(summary_table(made.figures))
    note(f"report: {made.report}")
    note(f"figures: {made.directory / 'expedition.json'}")


def _show_submission(made: "Submission", *, as_json: bool) -> None:
    if as_json:
        print_json({"plan": dict(made.figures), "job": str(made.job), "commands": dict(made.commands)})
        return
    figures = made.figures
    machine, layout = figures["machine"], figures["layout"]
    accelerators = machine["accelerators"]
    shared = f" × context {layout['context']}" if layout["context"] > 1 else ""
    low, high = figures["interval"]
    rows = [
        ("machines", f"{machine['nodes']:,} nodes of {machine['cluster']}: {accelerators['count']:,} × "
                     f"{accelerators['name']}"),
        ("layout", f"tensor {layout['tensor']} × pipeline {layout['pipeline']} × data {layout['data']}{shared}, "
                   f"micro-batches of {layout['micro_batch_size']}, {layout['schedule']}, recompute "
                   f"{layout['recompute']}, ZeRO {layout['zero']}, {layout['precision']}"),
        ("step", f"{human_seconds(figures['step_seconds'])} ({human_seconds(low)} to {human_seconds(high)})"),
        ("memory of a rank", f"{human_bytes(machine['memory_of_a_rank_bytes'])} of "
                             f"{human_bytes(accelerators['memory_bytes'])}"),
        ("training", f"{figures['steps']:,} steps, {human_count(figures['tokens'])} tokens, about "
                     f"{human_seconds(figures['seconds'])}"),
    ]  # fmt: skip
    show(table("Planned for its cluster", ["", ""], rows))
    for warning in figures["warnings"]:
        note(warning)
    note(f"jobs: {made.job}")
    note(f"Slurm:      {made.commands['slurm']}   (options for sbatch may follow: --account=A --time=24:00:00)")
    note(f"            sbatch {made.job / 'train.sbatch'} trains alone, once the data stand")
    note(f"Kubernetes: {made.commands['kubernetes']}   (after `image` and `claimName` are filled in)")
