"""Chinchilla's experiment, small: one budget, spent as Kaplan's exponent has it and as the study's own optimum has it.

`python studies/kaplan-or-chinchilla/run.py`, after the laws of studies/isoflop are fitted. Both shapes have the same
optimum at the study's smallest budget; from there one grows as C^0.73 (2001.08361) and the other as the study found.
FLOPs, text, rules of batch and rate, and seeds are the same. Losses, task scores with paired intervals over items and
seeds (`megalith compare`) and the cost of using each are written to results.json beside this file. The same command
goes on after an interrupt.
"""

import argparse
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from megalith import compare, evaluate
from megalith.arithmetic import flops_per_token, parameters
from megalith.machine import cpu_name
from megalith.recipe import load_recipe
from megalith.scaling.fitting import check_digest
from megalith.statistics import mean_and_standard_error, t_difference
from megalith.study import Design, further
from megalith.study.cells import CELLS, run_cells, write_recipe
from megalith.study.ledger import collect
from megalith.study.running import command

HERE = Path(__file__).resolve().parent
ISOFLOP = HERE.parent / "isoflop"
MADE = HERE / "runs"
KAPLAN = 0.73
SEEDS = 3
JUDGED = (
    "evaluate.tasks=[blimp, wikitext2, lambada]",
    "evaluate.items=6700",
    "evaluate.contamination=false",
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flops", type=float, default=2e13)
    parser.add_argument("--jobs", type=int, help="runs at once")
    asked = parser.parse_args(arguments)
    plans = shapes(asked.flops)
    sides = {name: trained(plan, asked.jobs) for name, plan in plans.items()}
    found = {"flops": asked.flops, "processor": cpu_name(), "shapes": {}, **judged(plans)}
    for name, rows in sides.items():
        found["shapes"][name] = told(plans[name], rows)
    losses = [found["shapes"][name]["losses"] for name in ("optimal", "kaplan")]
    found["loss_difference"] = difference(*losses)
    found["hours"] = sum(float(row["seconds"]) for rows in sides.values() for row in rows) / 3600
    (HERE / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def shapes(flops: float) -> dict[str, Design]:
    """The two ways to spend the budget, each with its seeds."""
    recipe = load_recipe(ISOFLOP / "recipe.yaml")[0]
    law = check_digest(ISOFLOP / "runs" / "law.json")
    study = json.loads((ISOFLOP / "runs" / "study.json").read_text(encoding="utf-8"))
    budgets = [float(each) for each in study["design"]["budgets"]]
    start = law.formula.optimal_parameters(budgets[0])
    sizes = {"optimal": law.formula.optimal_parameters(flops), "kaplan": start * (flops / budgets[0]) ** KAPLAN}
    return {name: further(recipe, budgets, flops, size, name=name, seeds=SEEDS) for name, size in sizes.items()}


def trained(plan: Design, jobs: int | None) -> list[dict[str, str]]:
    directory = MADE / plan.cells[0].name
    directory.mkdir(parents=True, exist_ok=True)
    write_recipe(load_recipe(ISOFLOP / "recipe.yaml")[0], directory)
    if not (directory / "tokenize").exists():
        (directory / "tokenize").symlink_to(ISOFLOP / "runs" / "tokenize", target_is_directory=True)
    return run_cells(
        directory, plan.cells, command, partial(collect, directory, plan),
        lambda row: f"validation loss {float(row['validation_loss']):.4f}", of=len(plan.cells), jobs=jobs,
    )  # fmt: skip


def judged(plans: dict[str, Design]) -> dict[str, Any]:
    """Every model on the tasks, and one shape against the other over items and seeds."""
    made: dict[str, list[Path]] = {}
    for name, plan in plans.items():
        places = [Path(os.path.relpath(MADE / name / CELLS / cell.name)) for cell in plan.cells]
        made[name] = [evaluate(MADE / name / "recipe.yaml", overrides=JUDGED, output=place).path for place in places]
    (a, *more_a), (b, *more_b) = made["optimal"], made["kaplan"]
    compared = compare(a, b, more_a=more_a, more_b=more_b, output=HERE / "comparison.html")
    return {"tasks": [dict(row) for row in compared.rows]}


def told(plan: Design, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """A shape: its size, what was lost, and what its use costs."""
    cell = plan.cells[0]
    count = parameters(cell.model)
    cache = 2 * cell.model.layers * cell.model.hidden  # keys and values, in numbers a token
    return {
        "layers": cell.model.layers, "hidden": cell.model.hidden, "parameters": count.total,
        "parameters_with_head": cell.counted, "tokens": cell.tokens, "tokens_per_parameter": cell.tokens / cell.counted,
        "flops": cell.flops, "learning_rate": cell.learning_rate, "batch": cell.batch,
        "losses": [float(row["validation_loss"]) for row in sorted(rows, key=lambda row: int(row["seed"]))],
        "inference_flops_per_token": flops_per_token(cell.model) / 3, "cache_numbers_per_token": cache,
    }  # fmt: skip


def difference(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """Kaplan's loss less the optimum's over seeds, which are paired."""
    each = [second - first for first, second in zip(a, b, strict=True)]
    mean, error = mean_and_standard_error(each)
    return {"each": each, "mean": mean, "interval": list(t_difference(mean, error, len(each) - 1).interval)}


if __name__ == "__main__":
    main()
