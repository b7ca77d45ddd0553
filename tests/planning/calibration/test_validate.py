"""Validation: the figures of a table, held out and not, and the command that prints them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.planning.calibration.calibrate import calibrate
from megalith.planning.calibration.validate import validate
from tests.planning.calibration.measured import write_table

RUN = CliRunner()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("tables") / "runs.csv", noise=0.03)


@pytest.fixture(scope="module")
def found(table: Path) -> dict[str, Any]:
    return validate(table)


def test_every_dataset_has_its_errors_with_the_constants_given_and_held_out(found: dict[str, Any]) -> None:
    assert [one["dataset"] for one in found["datasets"]] == ["runs-0", "runs-1", "runs-2"]
    for one in found["datasets"]:
        assert one["rows"] == 10
        assert not one["seen"]  # the shipped constants have never heard of it
        assert one["dataset"] not in one["held_out"]["fitted"]
        assert len(one["held_out"]["fitted"]) == 2
        assert one["rank_correlation"] > 0.95


def test_what_the_other_datasets_say_is_better_than_what_was_fitted_elsewhere(found: dict[str, Any]) -> None:
    alike = [one for one in found["datasets"] if one["stacks"] == ["megatron"]]
    assert len(alike) == 2
    for one in alike:
        assert one["held_out"]["mape"] < 0.06 < one["mape"]


def test_each_row_has_its_prediction_interval_and_measurement(found: dict[str, Any]) -> None:
    assert len(found["rows"]) == 30
    for row in found["rows"]:
        assert row["within"] == (row["interval"][0] <= row["measured_seconds"] <= row["interval"][1])
        assert row["error"] == pytest.approx(row["predicted_seconds"] / row["measured_seconds"] - 1)
        assert row["held_out_seconds"] > 0


def test_the_random_halves_are_of_one_generation_and_always_the_same(table: Path, found: dict[str, Any]) -> None:
    assert found["random_half"]["rows"] == 30
    assert 0.01 < found["random_half"]["mape"] < 0.08
    assert validate(table)["random_half"] == found["random_half"]


def test_constants_of_the_users_own_replace_the_shipped_ones(table: Path, tmp_path: Path) -> None:
    calibrate(table, tmp_path / "constants.json", ["runs-2"])
    own = validate(table, tmp_path / "constants.json", hold_out=False)
    first, second, third = own["datasets"]
    assert first["seen"]
    assert second["seen"]
    assert not third["seen"]
    assert first["mape"] < 0.05
    assert first["held_out"] is None
    assert own["constants"]["from"] == str(tmp_path / "constants.json")


def test_the_command_prints_one_json_object(table: Path) -> None:
    ended = RUN.invoke(app, ["plan", "validate", str(table), "--no-hold-out", "--json"])
    assert ended.exit_code == 0, ended.output
    assert set(json.loads(ended.stdout)) >= {"datasets", "memory", "rows", "skipped"}


def test_the_commands_print_tables(table: Path, tmp_path: Path) -> None:
    ended = RUN.invoke(app, ["plan", "validate", str(table)])
    assert ended.exit_code == 0, ended.output
    ended = RUN.invoke(app, ["plan", "calibrate", str(table), "-o", str(tmp_path / "constants.json")])
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "constants.json").is_file()


def test_nothing_is_said_of_what_was_not_held_out(table: Path) -> None:
    bare, whole = (RUN.invoke(app, ["plan", "validate", str(table), *more]) for more in (["--no-hold-out"], []))
    assert "held out: error" in whole.stdout and "held out: by constants" in whole.stderr
    assert "held out" not in bare.stdout + bare.stderr
    assert "within" in bare.stdout and "–" not in bare.stdout.partition("Memory")[0]


def test_a_bad_table_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    ended = RUN.invoke(app, ["plan", "validate", str(tmp_path / "bad.csv")])
    assert ended.exit_code == 2


@pytest.mark.data
def test_the_published_tables_are_predicted_as_well_as_the_docs_say(data_directory: Path) -> None:
    """Constants as shipped; the figures held out take longer, and stand in docs/verbs/validate.md."""
    found = validate(data_directory / "measurements" / "layouts.csv", hold_out=False)
    errors = {one["dataset"]: one["mape"] for one in found["datasets"]}
    for name in ("sc21_table1", "megatron_jan2021", "sc21_table2_ptd", "seqsel_table5", "mosaic_mpt", "mtnlg_530b"):
        assert errors[name] < 0.05, name
    assert errors["bloom_prequel"] < 0.07
    assert found["overall"]["coverage"] > 0.75
    assert found["overall"]["rank_correlation_of_speed"] > 0.9


def test_without_a_table_the_published_runs_that_are_shipped_are_predicted() -> None:
    """MT-NLG on 280, 350 and 420 nodes (2201.11990 §2.4); the constants have seen none of it."""
    done = CliRunner().invoke(app, ["plan", "validate", "--json", "--no-hold-out"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["table"] == "shipped"
    assert [row["measured_seconds"] for row in said["rows"]] == [60.1, 50.2, 44.4]
    (dataset,) = said["datasets"]
    assert not dataset["seen"]
    assert dataset["mape"] < 0.02
