"""Places that cannot be written end any verb with one sentence: what, where, and what to do."""

import errno
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from megalith.cli import app
from megalith.cli.guard import verb
from megalith.cli.tables import counted
from megalith.errors import InputError
from megalith.verbs.arguments import check_file
from tests.planning.calibration.measured import write_table

RUN = CliRunner()
DRAWN = ("plan", "timeline", "gpt3-175b", "--durations", "unit", "-o")
WRITTEN = "Name another place with --output."


def refused(*words: str | Path) -> str:
    result = RUN.invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_a_picture_that_cannot_be_written_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(*DRAWN, "/proc/x.svg") == (
        f"megalith: /proc/x.svg: this cannot be written: No such file or directory. {WRITTEN}"
    )
    said = f"megalith: {tmp_path}/file/x.svg: a file stands where a directory is wanted. {WRITTEN}"
    assert refused(*DRAWN, tmp_path / "file" / "x.svg") == said
    assert "ends in .png, .svg" in refused(*DRAWN, "/dev/null")


def test_a_link_to_itself_is_a_place_that_is_missing(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    said = refused("curate", "quickstart", "--source", loop, "--output", tmp_path / "out")
    assert said == f"megalith: {loop}: there is no such file or directory."
    assert "this is missing" in refused("import", loop)
    assert refused("train", loop)


def test_constants_are_refused_a_place_before_they_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        raise AssertionError("this takes long")

    monkeypatch.setattr("megalith.planning.calibration.calibrate.calibrate", fit)
    table = tmp_path / "table.csv"
    table.touch()
    assert "a directory stands where a file is wanted" in refused("plan", "calibrate", table, "-o", tmp_path)
    assert WRITTEN in refused("plan", "calibrate", table, "-o", "/proc/c.json")
    assert WRITTEN in refused("plan", "calibrate", table, "-o", table / "c.json")


def test_nothing_is_measured_for_a_place_a_table_or_a_folder_that_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: Any) -> None:
        raise AssertionError("this takes minutes")

    monkeypatch.setattr("megalith.planning.measuring.verbs.calibrate_here", measured)
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    measure = ("plan", "calibrate", "--measure")
    assert "takes no table of runs" in refused(*measure, "table.csv")
    assert "takes no table of runs" in refused(*measure, "absent")
    assert "no run here" in refused(*measure, tmp_path)
    assert "no datasets" in refused(*measure, "--hold-out", "sc21")
    assert WRITTEN in refused(*measure, "-o", "/proc/here.json")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def raising(error: OSError, *words: str) -> Any:
    """Return the result of a verb with --output that meets this error."""
    own = typer.Typer()

    @own.command()
    @verb
    def write(output: Path | None = None) -> None:
        raise error

    return RUN.invoke(own, words)


def test_only_what_the_verb_writes_is_to_be_named_elsewhere() -> None:
    there = raising(PermissionError(errno.EACCES, "Permission denied", "/a/b/.c.json.tmp"), "--output", "/a/b/c.json")
    assert " ".join(there.stderr.split()) == (
        f"megalith: /a/b/c.json: this cannot be written: Permission denied. {WRITTEN}"
    )
    above = raising(OSError(errno.EROFS, "Read-only file system", "/a"), "--output", "/a/b/c.json")
    assert "/a/b/c.json: this cannot be written: Read-only file system" in " ".join(above.stderr.split())
    unsaid = raising(PermissionError(errno.EACCES, "Permission denied", "runs/x"))
    assert "runs/x: this cannot be written" in unsaid.stderr and "--output" in unsaid.stderr
    other = raising(PermissionError(errno.EACCES, "Permission denied", "/its/input"), "--output", "/a/b/c.json")
    assert other.exit_code == 2
    assert "/its/input: this path cannot be used: Permission denied." in other.stderr
    assert "--output" not in other.stderr


def test_a_full_disk_and_what_is_of_no_path_are_told_apart() -> None:
    full = raising(OSError(errno.ENOSPC, "No space left on device", "/a"))
    assert full.exit_code == 2 and "the disk is full" in full.stderr
    assert isinstance(raising(ConnectionResetError(errno.ECONNRESET, "reset")).exception, ConnectionResetError)


def test_a_place_is_tried_without_leaving_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("kept")
    check_file(tmp_path / "old.json")
    check_file(tmp_path / "new" / "c.json")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"
    with pytest.raises(InputError, match="a directory stands"):
        check_file(tmp_path / "new")
    with pytest.raises(OSError):
        check_file(tmp_path / "old.json" / "c.json")


def test_one_is_singular_and_everything_else_is_not() -> None:
    counts = [counted(number, "node") for number in (0, 1, 2, 1200)]
    assert counts == ["0 nodes", "1 node", "2 nodes", "1,200 nodes"]
    assert counted(1, "row is", "rows are") == "1 row is" and counted(3, "row is", "rows are") == "3 rows are"
