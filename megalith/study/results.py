"""The outcome of a study: the noise of seeds, whether learning rates are interior, every law, and the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling import fit_runs, read_runs
from megalith.scaling.fitting import write_law
from megalith.study.cells import Row
from megalith.study.design import Design

LAW, FACTS = "law.json", "study.json"
_DEVIATIONS = 2.0  # a corner cell is better where it is lower by more than this times the noise of a difference
_NOISE_UNKNOWN = 0.002  # of log L, where no cell has several seeds


def results(directory: Path, name: str, plan: Design, rows: Sequence[Row]) -> dict[str, Any]:
    """The study's figures, also in `study.json`; the laws where all cells of the grid have run, and then the page.

    `name` is the recipe's, which the page has for its title.
    """
    missing = [cell.name for cell in plan.cells if cell.digest not in {row["digest"] for row in rows}]
    noise = seed_noise(rows)
    found: dict[str, Any] = {
        "recipe": name,
        "design": plan.facts(),
        "rows": list(rows),
        "missing": missing,
        "run_seconds": sum(float(row["seconds"]) for row in rows),
        "seed_noise": noise,
        "corners": corner_checks(rows, noise),
        "fit": None,
    }
    found["warnings"] = [check["said"] for check in found["corners"] if check["better"]]
    grid = {cell.digest for cell in plan.cells if cell.role == "grid"}
    if grid <= {row["digest"] for row in rows}:
        found["fit"] = _fitted(directory, found["warnings"])
    (directory / FACTS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found["fit"] is not None and "refused" not in found["fit"]:
        from megalith.report import write_study

        found["page"] = str(write_study(directory, found))
    return found


def _fitted(directory: Path, warnings: list[str]) -> dict[str, Any]:
    try:
        fit, law = fit_runs(read_runs(directory))
    except InputError as error:
        warnings.append(f"the runs were not fitted: {error}")
        return {"refused": str(error)}
    write_law(directory / LAW, law)
    return fit


def seed_noise(rows: Sequence[Row]) -> dict[str, Any]:
    """The standard deviation of log L over seeds of one cell: of each budget, and pooled."""
    budgets = []
    squares = freedom = 0.0
    for budget in sorted({float(row["budget"]) for row in rows}):
        alike: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if float(row["budget"]) == budget and row["role"] != "corner":
                key = row["parameters_with_head"], row["learning_rate"]
                alike.setdefault(key, []).append(np.log(float(row["validation_loss"])))
        for losses in alike.values():
            if len(losses) > 1:
                deviation = float(np.std(losses, ddof=1))
                budgets.append({"budget": budget, "runs": len(losses), "deviation": deviation})
                squares += deviation**2 * (len(losses) - 1)
                freedom += len(losses) - 1
    return {"budgets": budgets, "pooled": float(np.sqrt(squares / freedom)) if freedom else None}


def corner_checks(rows: Sequence[Row], noise: dict[str, Any]) -> list[dict[str, Any]]:
    """Each corner cell beside the mean of the cell whose learning rate it changes: whether it does better."""
    deviation = noise["pooled"] or _NOISE_UNKNOWN
    checks = []
    for row in rows:
        if row["role"] != "corner":
            continue
        same = ("budget", "parameters_with_head", "tokens", "batch")
        base = [one for one in rows if one["role"] != "corner" and all(one[key] == row[key] for key in same)]
        if not base:
            continue
        logs = [np.log(float(one["validation_loss"])) for one in base]
        gain = float(np.mean(logs) - np.log(float(row["validation_loss"])))
        factor = float(row["learning_rate"]) / float(base[0]["learning_rate"])
        allowed = _DEVIATIONS * deviation * float(np.sqrt(1 + 1 / len(base)))
        better = gain > allowed
        checks.append(
            {
                "cell": row["cell"],
                "of": base[0]["cell"],
                "factor": factor,
                "gain": gain,
                "allowed": allowed,
                "better": better,
                "said": f"the learning rate of {base[0]['cell']} is not at its optimum: {factor:.2g} times it lowers "
                f"the loss by {gain:.2%}, and noise explains {allowed:.2%}; set another train.learning_rate"
                if better
                else "",
            }
        )
    return checks
