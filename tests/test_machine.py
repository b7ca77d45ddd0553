"""The machine's cores and memory, against the system's own files."""

import os
from pathlib import Path

import pytest

from megalith import machine


def test_cores_are_those_of_the_affinity() -> None:
    assert machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert machine.usable_cores() >= 1


@pytest.mark.parametrize(
    ("quota", "share"), [("50000 100000", 1), ("150000 100000", 1), ("100000 100000", 1), ("garbage", None)]
)
def test_a_control_group_bounds_the_cores(
    quota: str, share: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.usable_cores() == (share or len(os.sched_getaffinity(0)))


def test_no_quota_bounds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.usable_cores() == len(os.sched_getaffinity(0))
    assert machine.total_memory_bytes() > 2**28


def test_a_control_group_bounds_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.total_memory_bytes() == 1_000_000
    assert machine.available_memory_bytes() == 600_000


def test_available_memory_is_part_of_the_total() -> None:
    assert 0 < machine.available_memory_bytes() <= machine.total_memory_bytes()
