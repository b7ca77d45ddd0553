"""Checkpoints in a store: whole or absent there, and a run whose disk is gone goes on from them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megalith.errors import InputError, RecipeError, ResourceError, UnsupportedError
from megalith.storage import Store
from megalith.training.checkpoint import Mirror, Mirroring, Saver
from megalith.training.mirroring import take_up_mirror
from megalith.training.task import TrainTask
from megalith.training.train import refuse_what_cannot_be_trained
from tests.storage.conftest import SECRET, Proxy, moto_server, s3
from tests.training.killed import FEW, found_step, state
from tests.training.small import run, small_recipe

__all__ = ["moto_server", "s3"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
ADDRESS = "s3://bucket/mirror"


def save(directory: Path, *steps: int, keep: int = 2) -> None:
    """Save and mirror each step in turn, waiting for each copy."""
    directory.mkdir(exist_ok=True)
    mirroring = Mirroring(Mirror(ADDRESS))
    saver = Saver(directory, stands=mirroring)
    for step in steps:
        saver.save(state(step, FEW), keep)
        saver.wait()
        mirroring.wait()


def task_in(directory: Path, run: str = "run") -> TrainTask:
    recipe = small_recipe(mirror=ADDRESS)
    return TrainTask(
        recipe=recipe, tokens=directory, workspace=directory, run=run, threads=1, peak_flops_per_second=None
    )


def test_a_run_whose_disk_is_gone_goes_on_from_the_newest_mirrored_checkpoint(tmp_path: Path, s3: Proxy) -> None:
    save(tmp_path / "a", 1, 2, 3)
    assert Mirror(ADDRESS).standing() == ["step-00000003", "step-00000002"]  # as many as are kept here
    assert not list((tmp_path / "a").glob(".mirroring"))
    take_up_mirror(task_in(tmp_path))
    assert found_step(tmp_path / "checkpoints", FEW) == 3


def test_checkpoints_that_stand_here_are_not_fetched(tmp_path: Path, s3: Proxy) -> None:
    save(tmp_path / "checkpoints", 1)
    s3.asked.clear()
    take_up_mirror(task_in(tmp_path))
    assert s3.asked == []


def test_a_checkpoint_without_its_state_does_not_exist(tmp_path: Path, s3: Proxy) -> None:
    save(tmp_path / "a", 1, 2)
    written = [asked.split("?")[0] for asked in s3.asked if asked.startswith("PUT") and "00000002/" in asked]
    assert written[-1].endswith("state.json")
    s3.delete("mirror/step-00000002/state.json")
    take_up_mirror(task_in(tmp_path))
    assert found_step(tmp_path / "checkpoints", FEW) == 1


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, s3: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a", 1, 2)
    (shard,) = [key for key in s3.objects() if "00000002/shard" in key]
    content = bytearray(s3.objects()[shard])
    content[-1] ^= 1
    s3.put(shard, bytes(content))
    take_up_mirror(task_in(tmp_path))
    assert found_step(tmp_path / "checkpoints", FEW) == 1
    assert "step-00000002: this checkpoint is passed over" in " ".join(capfd.readouterr().err.split())


def test_an_address_with_another_runs_checkpoints_is_refused_and_they_stay(
    tmp_path: Path, s3: Proxy, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "a", 7, 8)
    before = {key: s3.objects()[key] for key in s3.objects()}
    with pytest.raises(InputError, match="step-00000008 of another run is there"):
        take_up_mirror(task_in(tmp_path, run="another"))
    assert not (tmp_path / "checkpoints").exists()
    other = state(1, FEW)
    other.progress.run = "another"
    saver = Saver(tmp_path / "checkpoints", stands=(mirroring := Mirroring(Mirror(ADDRESS))))
    saver.save(other, 2)
    saver.wait()
    mirroring.wait()
    assert "of another run is there" in " ".join(capfd.readouterr().err.split())
    assert s3.objects() == before


def test_a_checkpoint_whose_state_cannot_be_read_is_never_removed(tmp_path: Path, s3: Proxy) -> None:
    save(tmp_path / "a", 8)
    s3.put("mirror/step-00000008/state.json", b"{}")
    save(tmp_path / "a", 1, 2, 3)
    assert Mirror(ADDRESS).standing() == ["step-00000008", "step-00000003", "step-00000002"]


def test_a_store_that_stays_away_ends_no_run_that_saves_but_one_that_would_begin_anew(
    tmp_path: Path, s3: Proxy, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "checkpoints", 1)
    s3.faults[:] = ["PUT status:503"] * 50
    save(tmp_path / "checkpoints", 2)
    assert found_step(tmp_path / "checkpoints", FEW) == 2
    assert "step-00000002 is not mirrored" in " ".join(capfd.readouterr().err.split())
    s3.faults.clear()
    save(tmp_path / "checkpoints", 3)
    assert Mirror(ADDRESS).standing()[0] == "step-00000003"
    shutil.rmtree(tmp_path / "checkpoints")
    s3.faults[:] = ["GET status:503"] * 50
    with pytest.raises(ResourceError):
        take_up_mirror(task_in(tmp_path))


def test_a_copy_that_is_on_its_way_holds_up_no_save(
    tmp_path: Path, s3: Proxy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = Store.write

    def slow(self: Store, file: Path, name: str) -> None:
        time.sleep(0.2)
        real(self, file, name)

    monkeypatch.setattr(Store, "write", slow)
    (tmp_path / "a").mkdir()
    mirroring = Mirroring(Mirror(ADDRESS))
    saver = Saver(tmp_path / "a", stands=mirroring)
    for step in (1, 2, 3):
        saver.save(state(step, FEW), keep=1)
    saver.wait()
    assert found_step(tmp_path / "a", FEW) == 3
    mirroring.wait()
    assert Mirror(ADDRESS).standing() == ["step-00000001"]  # though it has been removed here meanwhile
    assert "step-00000002 is not mirrored: the one before it is still on its way" in " ".join(
        capfd.readouterr().err.split()
    )


def test_a_mirror_that_cannot_be_is_refused_before_anything_is_trained() -> None:
    for address, kind in (("hf://user/repository", UnsupportedError), ("https://example.org/x", UnsupportedError)):
        with pytest.raises(kind):
            refuse_what_cannot_be_trained(small_recipe(mirror=address))
    with pytest.raises((RecipeError, ValueError), match="before its @"):
        small_recipe(mirror="s3://key:secret@bucket/x")
    with pytest.raises(InputError):
        refuse_what_cannot_be_trained(small_recipe(mirror="runs/mirror"))


@pytest.mark.slow
def test_a_killed_run_on_a_new_machine_ends_as_if_nothing_had_been(tmp_path: Path, s3: Proxy) -> None:
    whole = run(tmp_path / "whole", small_recipe())
    assert not s3.objects()
    code = (
        "import sys; from pathlib import Path; from tests.training.small import run, small_recipe\n"
        f"run(Path(sys.argv[1]), small_recipe(mirror={ADDRESS!r}))"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "first")], env=os.environ, start_new_session=True
    )
    while "mirror/step-00000008/state.json" not in s3.names():
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    mirrored = int(Mirror(ADDRESS).standing()[0].removeprefix("step-"))
    second = run(tmp_path / "second", small_recipe(mirror=ADDRESS))
    assert second.facts["resumed_at_step"] == mirrored
    for name in ("model/model.safetensors", "history.json"):
        assert (second.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert Mirror(ADDRESS).standing() == ["step-00000014"]
    assert second.digest == whole.digest
    assert "mirror" not in json.dumps(second.manifest.settings)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert all(SECRET.encode() not in content for content in s3.objects().values())
