"""Foretell one run beyond the study's budgets, and afterwards make it: `python studies/isoflop/forecast.py WHAT`.

`register` chooses the model and tokens that the law finds optimal for `--flops`, and writes its prediction with the
law's digest to forecast.json; a registered forecast is never written over. `run` makes that run with each seed (the
same command goes on after an interrupt) and writes outcome.json, whatever came out. The study's tokens must be there:
`megalith scaling study` with its command in README.md makes them.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from megalith.machine import cpu_name
from megalith.recipe import Recipe, load_recipe
from megalith.scaling import predict
from megalith.scaling.fitting import check_digest
from megalith.study import Design, further
from megalith.study.cells import run_cells, write_recipe
from megalith.study.ledger import collect
from megalith.study.running import command

HERE = Path(__file__).resolve().parent
STUDY, MADE = HERE / "runs", HERE / "beyond"
FORECAST, OUTCOME = HERE / "forecast.json", HERE / "outcome.json"
SEEDS = 2
LEVELS = (0.8, 0.95)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("register", "run"))
    parser.add_argument("--flops", type=float, help="of the run that is foretold")
    parser.add_argument("--jobs", type=int, help="runs at once")
    asked = parser.parse_args(arguments)
    if asked.what == "register":
        if asked.flops is None or FORECAST.exists():
            parser.error("register needs --flops" if asked.flops is None else f"{FORECAST} is registered already")
        print(_write(FORECAST, register(asked.flops)))
    else:
        print(_write(OUTCOME, run(json.loads(FORECAST.read_text(encoding="utf-8")), asked.jobs)))


def register(flops: float) -> dict[str, Any]:
    """The prediction for the law's optimum, of the shape and tokens that the study's rules give it."""
    law = check_digest(STUDY / "law.json")
    plan = beyond(flops, predict(law, flops=flops)["optimum"]["parameters"])
    cell = plan.cells[0]
    said = {
        level: predict(law, parameters=cell.counted, tokens=cell.tokens, flops=cell.flops, level=level)
        for level in LEVELS
    }
    found = said[LEVELS[0]]
    return {
        "registered": datetime.now(UTC).isoformat(timespec="seconds"),
        "law_digest": law.digest,
        "flops_over_largest_budget": flops / max(budgets()),
        "cell": plan.facts()["cells"][0],
        "seeds": [each.seed for each in plan.cells],
        "loss": found["loss"],
        "intervals": {f"{level:.0%}": one["interval"] for level, one in said.items()},
        "forecaster": found["forecaster"],
        "by_approach_3": found["by_approach_3"],
        "warnings": found["warnings"],
    }


def run(forecast: dict[str, Any], jobs: int | None) -> dict[str, Any]:
    """Make the run with each seed: losses, their mean, and the error of the forecast."""
    cell = forecast["cell"]
    plan = beyond(cell["budget"], cell["parameters_with_head"])
    assert plan.facts()["cells"][0] == cell, "the study's rules give another run than the one that is registered"
    write_recipe(recipe(), MADE)
    if not (MADE / "tokenize").exists():
        (MADE / "tokenize").symlink_to(Path("..", "runs", "tokenize"), target_is_directory=True)
    rows = run_cells(
        MADE, plan.cells, command, partial(collect, MADE, plan),
        lambda row: f"validation loss {float(row['validation_loss']):.4f}", of=len(plan.cells), jobs=jobs,
    )  # fmt: skip
    losses = [float(row["validation_loss"]) for row in sorted(rows, key=lambda row: int(row["seed"]))]
    mean = sum(losses) / len(losses)
    return {
        "law_digest": forecast["law_digest"],
        "foretold": forecast["loss"],
        "losses": losses,
        "mean": mean,
        "error": forecast["loss"] / mean - 1,
        "error_by_approach_3": forecast["by_approach_3"] / mean - 1,
        "spread_of_seeds": (max(losses) - min(losses)) / mean,
        "inside": {level: low <= mean <= high for level, (low, high) in forecast["intervals"].items()},
        "hours": sum(float(row["seconds"]) for row in rows) / 3600,
        "flops_per_second": [float(row["flops_per_second"]) for row in rows],
        "processor": cpu_name(),
    }


def recipe() -> Recipe:
    return load_recipe(HERE / "recipe.yaml")[0]


def budgets() -> list[float]:
    return [float(each) for each in json.loads((STUDY / "study.json").read_text(encoding="utf-8"))["design"]["budgets"]]


def beyond(flops: float, parameters: float) -> Design:
    return further(recipe(), budgets(), flops, parameters, name="beyond", seeds=SEEDS)


def _write(path: Path, found: dict[str, Any]) -> str:
    text = json.dumps(found, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return text


if __name__ == "__main__":
    main()
