"""Runs that have ended, as pairs of predicted and measured step time, and what they say of a measured machine.

Every run records both (`train/manifest.json`: what the plan predicted, what the median full step took, and on what).
The recorded prediction is the plan's, which has tried that very layout; a measured machine (`machine_file`) is
judged by its own prediction for the same layout, found again here.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from megalith.artifacts import LOGS, check_files, read_manifest
from megalith.errors import InputError, MegalithError
from megalith.input_files import read_json
from megalith.job import Job
from megalith.planning.measuring.compose import COMPOSITION_ERROR, predict_here
from megalith.planning.measuring.machine_file import BlockTable, Correction, read_table, write_table
from megalith.recipe import Recipe
from megalith.topology import Layout, layout_of, this_machine

COVERAGE = 0.9
JUDGED_AS = 3  # runs: what COMPOSITION_ERROR weighs beside the scatter of those that there are


@dataclass(frozen=True)
class RecordedRun:
    """One run: its layout, the prediction, and the measurement."""

    path: Path
    accelerator: str | None
    """The machine; None of runs that did not record it."""
    accelerators: int | None
    recipe: Recipe
    """As it was trained: sized, with layout, micro-batch and precision."""
    threads: int
    """Threads of each process."""
    predicted_seconds: float
    """The plan's prediction of a full step."""
    measured_seconds: float
    """The median full step."""

    @property
    def layout(self) -> Layout:
        return layout_of(self.recipe.parallel)

    @property
    def job(self) -> Job:
        """The run as the cost models are asked about it."""
        return Job.of(self.recipe, this_machine())


def read_runs(folder: Path) -> list[RecordedRun]:
    """The runs below `folder` that recorded both figures, by path.

    Raises InputError where there is none.
    """
    found = [run for path in sorted(folder.rglob("manifest.json")) if (run := _read(path)) is not None]
    if not found:
        raise InputError(
            "there is no run here that recorded a predicted and a measured step time.",
            where=str(folder),
            mend="Pass a folder with expeditions that have been planned and trained (`megalith run`).",
        )
    return found


def correct_file(path: Path, folder: Path) -> dict[str, Any]:
    """Correct the measured machine in the file at `path` by the runs below `folder`; the keys are `--json`'s.

    Raises InputError where there is no such file, or no run.
    """
    corrected, rows = correct(read_table(path), read_runs(folder))
    write_table(corrected, path)
    told = corrected.correction
    return {"path": str(path), "correction": told.model_dump(mode="json") if told else None, "runs": rows}


def correct(table: BlockTable, runs: Sequence[RecordedRun]) -> tuple[BlockTable, list[dict[str, Any]]]:
    """The measured machine with the factor by which its predictions missed these runs, and a row for each run.

    A run of another machine, width, kind of layout or number of threads says nothing, and its row why. Where none says
    anything, the table is as it was. Each row's `held_out` is its error with the factor of the other runs; `in_sample`
    has its own in it.
    """
    bare = table.model_copy(update={"correction": None})
    rows = [_row(bare, run) for run in runs]
    told = [row for row in rows if row["why_not"] is None]
    logs = [math.log(row["ratio"]) for row in told]
    if not told:
        return table, rows
    for row, own in zip(told, logs, strict=True):
        row["in_sample"] = math.expm1(own - statistics.fmean(logs))
        others = sum(logs) - own
        row["held_out"] = math.expm1(own - others / (len(logs) - 1)) if len(logs) > 1 else None
    return bare.model_copy(update={"correction": correction_of([row["ratio"] for row in told])}), rows


def correction_of(ratios: Sequence[float]) -> Correction:
    """The geometric mean of measured over predicted, and where the next run's ratio lies by Student's t.

    Few runs scatter by chance too little: COMPOSITION_ERROR counts as JUDGED_AS more of them.
    """
    logs = [math.log(ratio) for ratio in ratios]
    middle, count = statistics.fmean(logs), len(logs)
    freedom = count - 1 + JUDGED_AS
    scatter = sum((each - middle) ** 2 for each in logs) + JUDGED_AS * COMPOSITION_ERROR**2
    half = float(student.ppf((1 + COVERAGE) / 2, freedom)) * math.sqrt(scatter / freedom * (1 + 1 / count))
    interval = (math.exp(middle - half), math.exp(middle + half))
    return Correction(factor=math.exp(middle), interval=interval, coverage=COVERAGE, runs=count)


def _row(table: BlockTable, run: RecordedRun) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": str(run.path),
        "layout": {"tensor": run.layout.tensor, "pipeline": run.layout.pipeline, "data": run.layout.data},
        "planned_seconds": run.predicted_seconds,
        "measured_seconds": run.measured_seconds,
        "predicted_seconds": None,
        "ratio": None,
        "why_not": None,
    }
    if (run.accelerator, run.accelerators) != (table.machine["cpu"], table.cores):
        where = "a machine that it did not record" if run.accelerator is None else run.accelerator
        return row | {"why_not": f"it ran on {where}."}
    if run.threads != max(1, table.cores // run.layout.world):
        return row | {"why_not": f"its processes had {run.threads} threads each."}
    try:
        predicted = predict_here(run.job, table).seconds
    except MegalithError as error:
        return row | {"why_not": error.what}
    return row | {"predicted_seconds": predicted, "ratio": run.measured_seconds / predicted}


MEND = "Leave the run out, or train it again."


def _read(path: Path) -> RecordedRun | None:
    """None for another stage's manifest, and for a run without a prediction."""
    try:
        manifest = read_json(path, mend=MEND)
        if not isinstance(manifest, dict) or manifest.get("stage") != "train":
            return None
        if "seal" in manifest:
            check_files(path.parent, read_manifest(path.parent), f"{LOGS}/job.json")
        facts = manifest["facts"]
        pair = facts["compared"].get("step_seconds")
        if pair is None:
            return None
        machine = facts.get("machine", {})
        return RecordedRun(
            path=path.parent,
            accelerator=machine.get("accelerator"),
            accelerators=machine.get("count"),
            recipe=Recipe.model_validate(read_json(path.parent / LOGS / "job.json", mend=MEND)["recipe"]),
            threads=facts["threads_per_process"],
            predicted_seconds=pair["predicted"],
            measured_seconds=pair["measured"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"this run's record cannot be read: {type(error).__name__}: {error}.", where=str(path), mend=MEND
        ) from error
