"""Nothing of worth is removed: what differs is refused with both values, or set aside; what is damaged is not used."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from megalith.artifacts import (
    MANIFEST,
    Artifact,
    Workspace,
    check_part,
    file_digest,
    open_artifact,
    produce,
    set_aside,
    verify,
)
from megalith.artifacts.request import KEY, Request
from megalith.errors import InputError, MegalithError, RecipeError, ResourceError, error_from_json, error_to_json

LONG = "megalith.artifacts.making.LONG_SECONDS"


def make(
    path: Path,
    size: int = 3,
    *,
    build: Callable[[Workspace], dict[str, Any]] | None = None,
    inputs: Mapping[str, str] | None = None,
    recorded: Mapping[str, Any] | None = None,
    precious: bool = False,
) -> Artifact:
    def write(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("data/out.txt") as file:
            file.write_text("x" * size)
        with workspace.file("other.txt") as file:
            file.write_text("other")
        (workspace.logs / "times.txt").write_text(str(time.time_ns()))
        return {"size": size}

    return produce(
        path,
        stage="test",
        settings={"test": {"size": size, "name": "n"}, "version": 1},
        inputs=inputs or {},
        seed=1,
        build=build or write,
        recorded=recorded,
        precious=precious,
    )


def half_make(path: Path, size: int = 3, *, precious: bool = False, **options: Any) -> Path:
    """An attempt that ends after its first piece."""

    def stop(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("checkpoints/first") as file:
            file.write_text("whole")
        raise MegalithError("stopped")

    with pytest.raises(MegalithError, match="stopped"):
        make(path, size, build=stop, precious=precious, **options)
    return path.with_name(f".{path.name}.partial")


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


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


# damage


def outputs(path: Path) -> list[str]:
    return [output.path for output in open_artifact(path, "test").manifest.outputs if not output.is_log]


def flip(path: Path) -> None:
    """Change one bit in place, and put the time of the last change back as it was."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_bit_in_any_output_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    for _ in range(2):  # now read, then remembered
        open_artifact(tmp_path / "a", "test")
    for name in outputs(tmp_path / "a"):
        flip(tmp_path / "a" / name)
        with pytest.raises(InputError, match=f"{name} has been changed") as raised:
            open_artifact(tmp_path / "a", "test")
        assert "megalith verify" in (raised.value.mend or "")
        with pytest.raises(InputError, match=name):
            check_part(tmp_path / "a" / name.split("/")[0])
        flip(tmp_path / "a" / name)
    open_artifact(tmp_path / "a", "test")


def test_a_file_that_was_added_is_refused_and_logs_are_not_looked_at(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/logs/times.txt").unlink()
    open_artifact(tmp_path / "a", "test")
    (tmp_path / "a/data/more.parquet").write_text("x")
    with pytest.raises(InputError, match=r"data/more\.parquet has been added"):
        open_artifact(tmp_path / "a", "test")


@pytest.mark.parametrize("remembered", ["", "{", "[]", '{"data/out.txt": 3}', '{"data/out.txt": [1, 2, 3, 4, 5, "x"]}'])
def test_a_damaged_cache_is_read_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")
    (kept,) = (tmp_path / "cache/megalith/digests").iterdir()
    assert "data/out.txt" in json.loads(kept.read_text())
    kept.write_text(remembered)
    open_artifact(tmp_path / "a", "test")
    flip(tmp_path / "a/data/out.txt")
    kept.write_text(remembered)
    with pytest.raises(InputError, match="has been changed"):
        open_artifact(tmp_path / "a", "test")


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr("megalith.artifacts.digests.file_digest", digest)
    open_artifact(tmp_path / "a", "test")
    assert read == ["other.txt"], "a small file is as quickly read as looked up"


def test_a_damaged_artifact_is_made_anew_if_it_took_little_and_refused_if_it_is_precious(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a")
    flip(tmp_path / "a/data/out.txt")
    assert not make(tmp_path / "a").reused
    assert "a: made anew, since data/out.txt has been changed" in capfd.readouterr().err

    make(tmp_path / "b", precious=True)
    flip(tmp_path / "b/data/out.txt")
    with pytest.raises(InputError, match=r"data/out\.txt has been changed"):
        make(tmp_path / "b", precious=True)
    with set_aside():
        assert not make(tmp_path / "b", precious=True).reused
    assert names(tmp_path) == ["a", "b", "b.aside-1"]


@pytest.mark.parametrize("field", ["facts", "versions", "settings", "digest", "outputs", "seconds", "inputs"])
def test_every_field_of_the_manifest_is_sealed(tmp_path: Path, field: str) -> None:
    make(tmp_path / "a", inputs={"x": "y"})
    told = json.loads((tmp_path / "a" / MANIFEST).read_text())
    told[field] = {"facts": {"size": 4}, "versions": {}, "settings": {}, "digest": "0" * 64, "outputs": []}.get(
        field, {"seconds": 9.5, "inputs": {"x": "z"}}.get(field)
    )
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    for use in (lambda: open_artifact(tmp_path / "a", "test"), lambda: make(tmp_path / "a", inputs={"x": "y"})):
        with pytest.raises(InputError, match="damaged"):
            use()


def test_a_manifest_of_an_earlier_version_is_read_and_told_apart(tmp_path: Path) -> None:
    make(tmp_path / "a")
    told = json.loads((tmp_path / "a" / MANIFEST).read_text())
    for name in ("seal", "recorded", "machine", "earlier_seconds"):
        del told[name]
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    assert make(tmp_path / "a").reused
    (found,) = verify(tmp_path / "a")
    assert "unsealed" in found.files[0].state
    assert found.damaged == []
    told["outputs"][0]["sha256"] = "0" * 64
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(InputError, match="damaged"):
        open_artifact(tmp_path / "a", "test")


def test_verify_tells_the_state_of_every_file(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    assert [one.damaged for one in verify(tmp_path)] == [[], []]
    flip(tmp_path / "a/data/out.txt")
    (tmp_path / "a/other.txt").unlink()
    flip(tmp_path / "a/logs/times.txt")
    (tmp_path / "a/more.txt").write_text("")
    states = {file.path: file.state for file in verify(tmp_path)[0].damaged}
    assert states == {
        "data/out.txt": "damaged",
        "other.txt": "missing",
        "logs/times.txt": "damaged",
        "more.txt": "not in the manifest",
    }
    (tmp_path / "b" / MANIFEST).write_text("{")
    assert [file.path for file in verify(tmp_path)[1].damaged] == [MANIFEST]
    with pytest.raises(InputError, match="neither an artifact nor an expedition"):
        verify(tmp_path / "a/data")


def test_a_model_of_another_run_within_an_artifact_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", 3)
    make(tmp_path / "b", 4)
    (tmp_path / "a/data/out.txt").write_bytes((tmp_path / "b/data/out.txt").read_bytes())
    with pytest.raises(InputError, match=r"data/out\.txt has been changed"):
        check_part(tmp_path / "a/data")
    check_part(tmp_path / "b/data")
    check_part(tmp_path / "elsewhere")


# errors


def test_a_file_that_may_not_grow_is_told_apart_from_a_full_disk(tmp_path: Path) -> None:
    def fail(workspace: Workspace) -> dict[str, Any]:
        raise OSError(27, "File too large")

    with pytest.raises(ResourceError, match="reached the size"):
        make(tmp_path / "a", build=fail)


@pytest.mark.parametrize("kind", [MegalithError, *MegalithError.__subclasses__()])
def test_an_error_goes_from_process_to_process_unchanged(kind: type[MegalithError]) -> None:
    error = kind("what", where="where", mend=None)
    read = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(read) is kind
    assert read.args == error.args
