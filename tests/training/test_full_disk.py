"""A full disk, and a file that may not grow, end training in one sentence; the state stands and is taken up."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from megalith.errors import ResourceError
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
