"""A full disk, and a file that may not grow, end training in one sentence; the state stands and is taken up."""

import errno
import io
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from megalith.errors import ResourceError
from megalith.recipe import Recipe
from megalith.training.checkpoint.tensors import write_tensors
from megalith.training.monitor import _add_line
from tests.training import small

PLENTY, LITTLE = "20m", "600k"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={LITTLE}", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_is_told_though_nothing_can_be_written_and_the_run_goes_on(
    mounted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = small.small_recipe(checkpoint_interval=3)
    with pytest.raises(ResourceError, match="the disk is full") as raised:
        small.run(mounted, recipe)
    assert "Free some space" in (raised.value.mend or "")
    assert "Traceback" not in capfd.readouterr().err
    subprocess.run(["mount", "-o", f"remount,size={PLENTY}", str(mounted)], check=True)
    resumed = small.run(mounted, recipe)
    assert resumed.facts["resumed_at_step"]
    assert resumed.digest == small.run(tmp_path / "whole", recipe).digest


def test_a_file_that_may_not_grow_is_told_in_words(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    small.make_tokens(tmp_path / "tokens")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match="reached the size that this shell allows"):
            small.run(tmp_path, small.small_recipe())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def full(times: int, patch: pytest.MonkeyPatch, name: str, right: Callable[..., Any]) -> None:
    """Have the disk be full for so many calls."""
    left = [0] * times

    def write(*arguments: Any, **named: Any) -> Any:
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return right(*arguments, **named)

    patch.setattr(name, write)


def recipe_of() -> Recipe:
    return small.small_recipe(model={"dropout": 0.0}, micro_batch_size=8, batch_ramp=None, tokens=8 * 16 * 9)


def test_training_goes_on_past_one_checkpoint_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with small.in_this_process():
        whole = small.run(tmp_path / "whole", recipe_of())
        full(1, monkeypatch, "megalith.training.checkpoint.storage.write_tensors", write_tensors)
        made = small.run(tmp_path / "broken", recipe_of())
    assert made.digest == whole.digest
    assert "could not be written: the disk is full" in capfd.readouterr().err


def test_two_checkpoints_in_a_row_that_cannot_be_written_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(2, monkeypatch, "megalith.training.checkpoint.storage.write_tensors", write_tensors)
    with small.in_this_process(), pytest.raises(ResourceError, match="could not be written: the disk is full"):
        small.run(tmp_path, recipe_of())


def test_training_goes_on_without_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with small.in_this_process():
        whole = small.run(tmp_path / "whole", recipe_of())
        full(5, monkeypatch, "megalith.training.monitor._add_line", _add_line)
        full(1, monkeypatch, "torch.utils.tensorboard.SummaryWriter.add_scalar", SummaryWriter.add_scalar)
        made = small.run(tmp_path / "broken", recipe_of())
    assert made.digest == whole.digest
    assert capfd.readouterr().err.count("metrics.jsonl cannot be written: the disk is full.") == 1


def test_a_line_that_does_not_fit_leaves_no_half(tmp_path: Path) -> None:
    class Short(io.FileIO):
        def write(self, line: Any) -> int:
            return super().write(line[:3])

    with Short(tmp_path / "log", "wb") as file, pytest.raises(OSError, match="space"):
        _add_line(file, b"a whole line")
    assert (tmp_path / "log").read_bytes() == b""
