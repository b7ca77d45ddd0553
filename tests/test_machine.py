"""What the machine says of itself, and rates that agree with a clock of our own."""

import os
import time
from pathlib import Path

import pytest
import torch

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


def test_the_rate_of_a_product_is_its_flops_over_its_time() -> None:
    """Against a plain clock around the same product: within a factor of three, since other programs run too."""
    left, right = torch.ones(256, 256), torch.ones(256, 256)
    with machine.using_threads(1):
        left @ right
        start = time.perf_counter()
        for _ in range(50):
            left @ right
        plain = 50 * 2 * 256**3 / (time.perf_counter() - start)
    rate = machine.measure_gemm_flops_per_second(torch.float32, 1, (256, 256, 256), seconds=0.05)
    assert plain / 3 < rate < plain * 30


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), machine.using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


def test_the_best_of_several_attempts_counts() -> None:
    naps = iter([0.0, 0.03, 0.01, 0.02, 0.03])
    assert 0.01 <= machine.best_seconds(lambda: time.sleep(next(naps)), seconds=0.0, least=4) < 0.02
