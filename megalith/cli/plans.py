"""The verbs of planning and scaling: `plan layout`, `plan budget`, `scaling fit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.shared import Json, Overrides, RecipeName, cell, not_yet, print_json, verb
from megalith.console import human_bytes, human_count, human_seconds, note, show, table
from megalith.errors import UnsupportedError
from megalith.recipe import load_recipe

app = typer.Typer(no_args_is_help=True, help="What it will cost, before it is spent.")
scaling_app = typer.Typer(no_args_is_help=True, help="Scaling laws from runs.")


@app.command("layout")
@verb
def plan_layout(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """The best layout for the model on the recipe's machines, and why the others lost."""
    from megalith.planning import layout

    loaded, _ = load_recipe(recipe, overrides or ())
    found = layout(loaded)
    if as_json:
        print_json(found)
        return
    best = found["best"]
    headings = (
        "",
        "tensor",
        "pipeline",
        "data",
        "micro-batch",
        "threads",
        "precision",
        "step",
        "memory",
        "why not",
    )
    rows = [
        _layout_row("best", {**best, **found}, ""),
        *[_layout_row("", row, row["why"]) for row in found["runners_up"]],
    ]
    made = table(f"Layouts of {loaded.name}", headings, rows)
    made.columns[-1].justify = "left"
    show(made)
    low, high = found["interval"]
    note(
        f"step {human_seconds(found['step_seconds'])} ({human_seconds(low)} to {human_seconds(high)}), "
        f"{found['tflops_per_gpu'] * 1000:.0f} GFLOP/s per process; {found['candidates_considered']} candidates in "
        f"{human_seconds(found['search_seconds'])}"
    )


def _layout_row(mark: str, row: dict[str, Any], why: str) -> list[str]:
    names = ("tensor", "pipeline", "data", "micro_batch_size", "threads_per_process", "precision")
    figures = [str(row.get(name, "–")) for name in names]
    return [mark, *figures, human_seconds(row["step_seconds"]), human_bytes(row["memory_bytes"]), why]


@app.command("budget")
@verb
def plan_budget(
    flops: Annotated[float | None, typer.Option("--flops", min=1.0, help="Training FLOPs.")] = None,
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Take budget.flops from this recipe.")
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compute-optimal parameters and tokens for a FLOP budget, by each law."""
    from megalith.planning import budget

    if flops is None:
        if recipe is None:
            raise UnsupportedError(
                "a budget in FLOPs is wanted.", mend="Give --flops 1e21, or a recipe that has budget.flops."
            )
        flops = load_recipe(recipe, overrides or ())[0].budget.flops
        if flops is None:
            raise UnsupportedError(
                "this recipe has no budget.flops.",
                where=recipe,
                mend="Add budget.flops=1e21 or give --flops.",
            )
    found = budget(flops)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            law["law"],
            human_count(law["parameters"]),
            human_count(law["tokens"]),
            f"{law['tokens'] / law['parameters']:.1f}",
            "–" if law["loss"] is None else f"{law['loss']:.3f}",
            "–" if law["interval"] is None else " … ".join(human_count(bound) for bound in law["interval"]),
        )
        for law in found["laws"]
    ]
    headings = ("law", "parameters", "tokens", "tokens/parameter", "loss", "interval of parameters")
    show(table(f"Compute-optimal for {flops:.3g} FLOPs", headings, rows))


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


not_yet(app, "timeline", "`plan timeline` (one training step drawn) is not built yet.")
not_yet(app, "dryrun", "`plan dryrun` (one rank of the real job on fake tensors) is not built yet.")
not_yet(app, "validate", "`plan validate` (predictions against a table of measurements) is not built yet.")
not_yet(app, "calibrate", "`plan calibrate` is not built yet; `plan layout` measures this machine each time.")
not_yet(
    scaling_app,
    "study",
    "`scaling study` (a sweep of small runs) is not built yet; `scaling fit` reads a table of runs.",
)
