"""Nothing of worth is removed: what differs is refused with both values, or set aside."""

import json
from pathlib import Path
from typing import Any

import pytest

from megalith.artifacts import (
    Artifact,
    Workspace,
    open_artifact,
    produce,
    set_aside,
)
from megalith.artifacts.request import KEY, Request
from megalith.errors import InputError, MegalithError, RecipeError, ResourceError
from tests.small_artifacts import LONG, half_make, make, names


@pytest.fixture
def long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """All work counts as long."""
    monkeypatch.setattr(LONG, -1.0)


# what differs


def test_a_precious_artifact_of_other_settings_is_refused_with_both_values(tmp_path: Path) -> None:
    make(tmp_path / "a", 3, precious=True)
    with pytest.raises(RecipeError, match=r"test\.size was 3 and is 4 now") as raised:
        make(tmp_path / "a", 4, precious=True)
    assert "--fresh" in (raised.value.mend or "")
    assert open_artifact(tmp_path / "a", "test").facts == {"size": 3}
    assert names(tmp_path) == ["a"]


@pytest.mark.usefixtures("long_work")
def test_what_took_long_is_refused_and_other_inputs_are_named_with_both_digests(tmp_path: Path) -> None:
    make(tmp_path / "a", inputs={"corpus": "a" * 64})
    with pytest.raises(InputError, match=r"inputs\.corpus was aaaaaaaaaaaa and is bbbbbbbbbbbb now"):
        make(tmp_path / "a", inputs={"corpus": "b" * 64})


def test_what_took_little_is_made_anew_with_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a", 3)
    assert not make(tmp_path / "a", 4).reused
    assert "a: made anew, since test.size was 3 and is 4 now" in capfd.readouterr().err
    assert names(tmp_path) == ["a"]


def test_fresh_sets_the_old_one_aside_once_the_new_one_is_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a", 3, precious=True)

    def fail(workspace: Workspace) -> dict[str, Any]:
        raise InputError("bad input")

    with set_aside(), pytest.raises(InputError):
        make(tmp_path / "a", 4, build=fail, precious=True)
    assert names(tmp_path) == ["a"]
    for number, size in ((1, 4), (2, 5)):
        with set_aside():
            make(tmp_path / "a", size, precious=True)
        assert f"kept as a.aside-{number}" in capfd.readouterr().err
    assert [open_artifact(tmp_path / name, "test").facts["size"] for name in names(tmp_path)] == [5, 3, 4]
    with set_aside(False), pytest.raises(RecipeError):
        make(tmp_path / "a", 6, precious=True)


def test_a_half_made_precious_artifact_is_refused_or_set_aside(tmp_path: Path) -> None:
    partial = half_make(tmp_path / "a", 3, precious=True)
    with pytest.raises(RecipeError, match=r"half-made.*test\.size was 3 and is 4 now"):
        make(tmp_path / "a", 4, precious=True)
    assert (partial / "checkpoints/first").is_file()
    with set_aside():
        make(tmp_path / "a", 4, precious=True)
    assert (tmp_path / "a.aside-1" / "checkpoints/first").is_file()
    assert open_artifact(tmp_path / "a", "test").facts == {"size": 4}


def test_a_half_made_precious_artifact_with_nothing_but_logs_makes_way(tmp_path: Path) -> None:
    def stop(workspace: Workspace) -> dict[str, Any]:
        (workspace.logs / "times.txt").write_text("0")
        raise MegalithError("stopped")

    with pytest.raises(MegalithError, match="stopped"):
        make(tmp_path / "a", 3, build=stop, precious=True)
    assert make(tmp_path / "a", 4, precious=True).facts == {"size": 4}


def test_time_spent_on_earlier_attempts_counts(tmp_path: Path) -> None:
    partial = half_make(tmp_path / "a", 3)
    mark = json.loads((partial / KEY).read_text())
    (partial / KEY).write_text(json.dumps(mark | {"began": mark["began"] - 100}))
    with pytest.raises(RecipeError):
        make(tmp_path / "a", 4)
    artifact = make(tmp_path / "a", 3)
    assert artifact.manifest.earlier_seconds == pytest.approx(100, abs=30)
    with pytest.raises(RecipeError):
        make(tmp_path / "a", 4)


def test_a_workspace_of_an_earlier_version_is_known_by_its_key(tmp_path: Path) -> None:
    partial = half_make(tmp_path / "a", 3, precious=True)
    key = Request("test", {"test": {"size": 3, "name": "n"}, "version": 1}, {}, 1).key
    (partial / KEY).write_text(key)
    with pytest.raises(InputError, match="not recorded"):
        make(tmp_path / "a", 4, precious=True)
    assert (partial / "checkpoints/first").is_file()
    found = [output.path for output in make(tmp_path / "a", 3, precious=True).manifest.outputs]
    assert "checkpoints/first" in found


@pytest.mark.parametrize("mark", ["", "{", "[1]", '{"began": 1, "spent": 2}', '{"began": "x"}', "\xff", "7" * 64])
def test_a_damaged_mark_loses_nothing(tmp_path: Path, mark: str) -> None:
    partial = half_make(tmp_path / "a", 3, precious=True)
    (partial / KEY).write_text(mark)
    with pytest.raises(InputError):
        make(tmp_path / "a", 3, precious=True)
    assert (partial / "checkpoints/first").is_file()


def test_what_is_only_recorded_leaves_an_artifact_standing_and_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a", recorded={"inputs.modules": "a" * 64})
    again = make(tmp_path / "a", recorded={"inputs.modules": "b" * 64})
    assert again.reused
    assert "inputs.modules was aaaaaaaaaaaa and is bbbbbbbbbbbb now" in capfd.readouterr().err
    with set_aside():
        assert not make(tmp_path / "a", recorded={"inputs.modules": "b" * 64}).reused
        assert make(tmp_path / "a", recorded={"inputs.modules": "b" * 64}).reused


def test_an_input_that_is_now_only_recorded_leaves_an_older_artifact_standing(tmp_path: Path) -> None:
    make(tmp_path / "a", inputs={"modules": "a" * 64})
    assert make(tmp_path / "a", recorded={"inputs.modules": "a" * 64}).reused


def test_of_long_values_the_part_that_differs_is_shown(tmp_path: Path) -> None:
    def of(paths: list[str]) -> Artifact:
        settings = {"test": {"paths": paths}}
        return produce(
            tmp_path / "a", stage="test", settings=settings, inputs={}, seed=0, build=lambda _: {}, precious=True
        )

    common = [f"/data/corpus/part-{number}" for number in range(40)]
    of([*common, "old"])
    with pytest.raises(RecipeError) as raised:
        of([*common, "new"])
    assert '"old"]' in str(raised.value)
    assert '"new"]' in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("left", ["a user's file", None])
def test_a_directory_that_no_stage_wrote_is_never_removed(tmp_path: Path, left: str | None) -> None:
    (tmp_path / "a").mkdir()
    if left is None:  # an empty one is no loss
        assert make(tmp_path / "a").facts == {"size": 3}
        return
    (tmp_path / "a/notes.txt").write_text(left)
    with pytest.raises(InputError, match="no manifest"):
        make(tmp_path / "a")
    assert (tmp_path / "a/notes.txt").read_text() == left


# kills around the replacement


def test_a_replacement_that_was_killed_is_ended_or_taken_back(tmp_path: Path) -> None:
    make(tmp_path / "a", 3)
    (tmp_path / "a").rename(tmp_path / ".a.old")
    assert make(tmp_path / "a", 3).reused, "the old one is put back"
    assert names(tmp_path) == ["a"]

    make(tmp_path / "b", 4)
    (tmp_path / "a").rename(tmp_path / ".a.old")
    (tmp_path / "b").rename(tmp_path / ".a.partial")
    assert make(tmp_path / "a", 4).facts == {"size": 4}, "the new one takes its place"
    assert names(tmp_path) == ["a"]

    make(tmp_path / "b", 5)
    (tmp_path / "b").rename(tmp_path / ".a.old")
    assert make(tmp_path / "a", 4).reused
    assert names(tmp_path) == ["a"]


def test_a_workspace_killed_with_manifest_and_mark_is_put_in_place(tmp_path: Path) -> None:
    make(tmp_path / "a", 3)
    (tmp_path / "a").rename(tmp_path / ".a.partial")
    (tmp_path / ".a.partial" / KEY).write_text("{}")
    assert make(tmp_path / "a", 3).facts == {"size": 3}
    assert make(tmp_path / "a", 3).reused
    assert not (tmp_path / "a" / KEY).exists()


def test_a_file_that_may_not_grow_is_told_apart_from_a_full_disk(tmp_path: Path) -> None:
    def fail(workspace: Workspace) -> dict[str, Any]:
        raise OSError(27, "File too large")

    with pytest.raises(ResourceError, match="reached the size"):
        make(tmp_path / "a", build=fail)
