"""Artifacts are whole or absent, reused when nothing changed, and taken up where a killed attempt left them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from megalith.artifacts import MANIFEST, Artifact, Workspace, open_artifact, produce
from megalith.errors import BusyError, InputError, MegalithError, ResourceError
from megalith.locking import lock


def make(path: Path, build: Any = None, *, size: int = 3, inputs: Mapping[str, str] | None = None) -> Artifact:
    def write(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("data/out.txt") as file:
            file.write_text("x" * size)
        (workspace.logs / "times.txt").write_text(str(time.time_ns()))
        return {"size": size}

    return produce(path, stage="test", settings={"size": size}, inputs=inputs or {}, seed=1, build=build or write)


def test_the_same_settings_and_inputs_are_built_once(tmp_path: Path) -> None:
    first = make(tmp_path / "a")
    assert not first.reused
    second = make(tmp_path / "a")
    assert second.reused
    assert second.manifest == first.manifest


@pytest.mark.parametrize("change", [{"size": 4}, {"inputs": {"corpus": "other"}}])
def test_another_setting_or_input_is_built_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    first = make(tmp_path / "a")
    second = make(tmp_path / "a", **change)
    assert not second.reused
    assert second.manifest.key != first.manifest.key
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_logs_do_not_count_towards_the_digest_and_outputs_do(tmp_path: Path) -> None:
    assert make(tmp_path / "a").digest == make(tmp_path / "b").digest
    assert make(tmp_path / "c", size=5).digest != make(tmp_path / "a").digest


def test_an_artifact_that_lost_a_file_is_built_again(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/data/out.txt").unlink()
    with pytest.raises(InputError, match=r"data/out\.txt is missing"):
        open_artifact(tmp_path / "a", "test")
    assert not make(tmp_path / "a").reused


@pytest.mark.parametrize("text", ["", "{", '{"stage": "test"}'])
def test_a_damaged_manifest_is_an_input_error(tmp_path: Path, text: str) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        open_artifact(tmp_path / "a", "test")


def test_a_failed_build_leaves_nothing_and_keeps_the_older_artifact(tmp_path: Path) -> None:
    make(tmp_path / "a")

    def fail(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("half") as file:
            file.write_text("half")
            raise InputError("bad input")

    with pytest.raises(InputError):
        make(tmp_path / "a", fail, size=9)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert open_artifact(tmp_path / "a", "test").facts == {"size": 3}


def test_an_error_that_is_not_the_inputs_fault_keeps_whole_pieces_for_the_next_attempt(tmp_path: Path) -> None:
    def stop_after_one_piece(workspace: Workspace) -> dict[str, Any]:
        if not (workspace.path / "piece").exists():
            with workspace.file("piece") as file:
                file.write_text("whole")
            with workspace.file("torn") as file:
                file.write_text("ha")
                raise MegalithError("the loss is not finite")
        return {}

    with pytest.raises(MegalithError):
        make(tmp_path / "a", stop_after_one_piece)
    assert {entry.name for entry in (tmp_path / ".a.partial").iterdir()} == {".key", "piece"}
    assert [output.path for output in make(tmp_path / "a", stop_after_one_piece).manifest.outputs] == ["piece"]


def test_pieces_of_another_key_are_thrown_away(tmp_path: Path) -> None:
    partial = tmp_path / ".a.partial"
    partial.mkdir()
    (partial / ".key").write_text("of another recipe")
    (partial / "stale").write_text("stale")
    assert [output.path for output in make(tmp_path / "a").manifest.outputs if "logs" not in output.path] == [
        "data/out.txt"
    ]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("big") as file, Path("/dev/full").open("w") as full:
            file.write_text("started")
            full.write("x" * 100_000)
            full.flush()
        return {}

    with pytest.raises(ResourceError, match="the disk is full"):
        make(tmp_path / "a", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_wraps_the_full_disk_in_an_error_of_its_own_is_understood(tmp_path: Path) -> None:
    def fill(workspace: Workspace) -> dict[str, Any]:
        raise RuntimeError("IO error: No space left on device (os error 28)")

    with pytest.raises(ResourceError):
        make(tmp_path / "a", fill)


def test_a_build_killed_between_manifest_and_rename_is_put_in_place(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / ".a.partial")

    def must_not_run(workspace: Workspace) -> dict[str, Any]:
        raise AssertionError("it was whole")

    assert make(tmp_path / "a", must_not_run).facts == {"size": 3}


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from megalith.artifacts import produce

def build(workspace):
    for number in range(3):
        name = f"piece-{number}"
        if not (workspace.path / name).exists():
            with workspace.file(name) as file:
                file.write_text(name)
                print("started", name, flush=True)
                time.sleep(0.3)
    return {}

produce(Path(sys.argv[1]), stage="test", settings={}, inputs={}, seed=0, build=build)
"""


def test_a_killed_build_is_resumed_from_its_whole_pieces(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path / "a")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    while "piece-1" not in first.stdout.readline():
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "a").exists()
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert second.stdout.split() == ["started", "piece-1", "started", "piece-2"]
    assert len(open_artifact(tmp_path / "a", "test").manifest.outputs) == 3


HOLD = """
import sys, time
from pathlib import Path
from megalith.locking import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_while_the_first_holds_the_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid} on"), lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with lock(tmp_path):
        pass


def test_a_refused_second_run_leaves_the_first_ones_lock_in_place(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for _ in range(3):
            with pytest.raises(BusyError), lock(tmp_path):
                pass
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "/dev/null/run", "x" * 300])
def test_a_place_that_cannot_be_written_to_is_an_input_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError), lock(tmp_path / place):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_removes_the_directories_it_made_if_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(InputError), lock(tmp_path / "new/deep"):
        raise InputError("nothing to read")
    assert list(tmp_path.iterdir()) == []
    with lock(tmp_path / "new/deep"):
        (tmp_path / "new/deep/result").write_text("kept")
    assert (tmp_path / "new/deep/result").exists()


def test_a_file_in_the_directorys_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file stands"), lock(tmp_path / "file/deep"):
        pass


def test_the_manifest_lists_every_file_with_its_size(tmp_path: Path) -> None:
    artifact = make(tmp_path / "a")
    told = json.loads((tmp_path / "a" / MANIFEST).read_text())
    on_disk = {
        path.relative_to(tmp_path / "a").as_posix(): path.stat().st_size
        for path in (tmp_path / "a").rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    assert {output["path"]: output["bytes"] for output in told["outputs"]} == on_disk
    assert told["versions"]["megalith"]
    assert artifact.manifest.peak_memory_bytes > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
