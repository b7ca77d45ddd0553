"""Runs that have ended, as pairs, and the factor that they give a measured machine."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from megalith.errors import InputError
from megalith.planning.measuring.compose import predict_here
from megalith.planning.measuring.correction import COVERAGE, correct, correction_of, read_runs
from megalith.recipe import load_recipe
from tests.planning.measuring.test_compose import CORES, MODEL, job, table

HERE = {"accelerator": "a processor", "count": CORES}


def record(
    folder: Path, measured: float, machine: dict[str, Any] | None = None, *overrides: str, threads: int = CORES
) -> Path:
    """A run as training leaves it, as far as it is read."""
    shape = [f"model.{name}={value}" for name, value in MODEL.model_dump(mode="json").items() if value is not None]
    asked = ("train.tokens=4096", "train.micro_batch_size=4", "train.precision=fp32")
    grid = ("parallel.tensor=1", "parallel.pipeline=1", "parallel.data=1")
    recipe, _ = load_recipe("quickstart", [*shape, *asked, *grid, "tokenize.vocab_size=512", *overrides])
    path = folder / "train"
    (path / "logs").mkdir(parents=True)
    pair = {"predicted": 0.1, "measured": measured, "measured_over_predicted": measured / 0.1}
    facts = {"compared": {"step_seconds": pair}, "threads_per_process": threads} | (
        {"machine": machine} if machine else {}
    )
    (path / "manifest.json").write_text(json.dumps({"stage": "train", "facts": facts}))
    (path / "logs" / "job.json").write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}))
    return path


def test_every_run_below_a_folder_is_read_with_its_layout_and_machine(tmp_path: Path) -> None:
    record(tmp_path / "a", 0.12, HERE, "parallel.data=2")
    record(tmp_path / "b" / "deeper", 0.08)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "manifest.json").write_text(json.dumps({"stage": "plan", "facts": {}}))
    first, second = read_runs(tmp_path)
    assert (first.layout.data, first.accelerator, first.accelerators) == (2, "a processor", CORES)
    assert (first.predicted_seconds, first.measured_seconds) == (0.1, 0.12)
    assert second.accelerator is None
    assert second.job.micro_batches == 4


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        read_runs(tmp_path)


def test_a_record_that_was_cut_short_is_named(tmp_path: Path) -> None:
    path = record(tmp_path, 0.1)
    (path / "logs" / "job.json").write_text("{")
    with pytest.raises(InputError, match="Leave the run out"):
        read_runs(tmp_path)


def test_runs_correct_what_the_blocks_of_their_machine_predict(tmp_path: Path) -> None:
    made = table(job())
    bare = predict_here(job(), made).seconds
    record(tmp_path / "a", 1.1 * bare, HERE)
    record(tmp_path / "b", 1.3 * bare, HERE)
    record(tmp_path / "c", 9.0, {"accelerator": "another", "count": 64})
    record(tmp_path / "d", 9.0, HERE, "train.micro_batch_size=2")
    record(tmp_path / "e", 9.0, HERE | {"count": CORES + 1})
    record(tmp_path / "f", 9.0, HERE, threads=CORES - 1)
    corrected, rows = correct(made, read_runs(tmp_path))
    assert corrected.correction is not None
    assert corrected.correction.factor == pytest.approx(math.sqrt(1.1 * 1.3))
    step = predict_here(job(), corrected)
    assert step.seconds == pytest.approx(bare * math.sqrt(1.1 * 1.3)) == pytest.approx(sum(step.parts.values()))
    assert step.interval == pytest.approx([bare * bound for bound in corrected.correction.interval])
    assert [row["why_not"] is None for row in rows] == [True, True, False, False, False, False]
    assert "threads" in rows[-1]["why_not"]
    assert rows[0]["in_sample"] == pytest.approx(1.1 / math.sqrt(1.1 * 1.3) - 1)
    assert rows[0]["held_out"] == pytest.approx(1.1 / 1.3 - 1)
    again, _ = correct(corrected, read_runs(tmp_path))
    assert again == corrected  # not corrected twice


def test_runs_of_other_machines_alone_leave_the_table_as_it_was(tmp_path: Path) -> None:
    record(tmp_path, 9.0)
    made = table(job())
    corrected, (row,) = correct(made, read_runs(tmp_path))
    assert corrected == made
    assert "did not record" in row["why_not"]


def test_a_single_run_gives_a_wide_interval_and_many_alike_a_narrow_one() -> None:
    one, many = correction_of([1.2]), correction_of([1.2] * 30)
    assert one.factor == many.factor == pytest.approx(1.2)
    assert one.interval[1] / one.interval[0] > 1.5 > 1.2 > many.interval[1] / many.interval[0]
    assert one.coverage == COVERAGE
    # by hand: √(3 · 0.1² / 3 · 2) · t(3 degrees, 95 %), which is 2.3534
    assert math.log(one.interval[1] / 1.2) == pytest.approx(0.1 * math.sqrt(2) * 2.3534, rel=1e-4)
