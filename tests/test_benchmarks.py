"""The benchmarks run, and what they say adds up; their figures are for a quiet machine."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def parallel_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import parallel_cpu

    yield parallel_cpu
    for name in ("parallel_cpu", "timed_gloo", "common"):
        sys.modules.pop(name, None)


def step(module: ModuleType, *calls: dict[str, Any], end: float = 10.0, operations: float | None = None) -> Any:
    return module.Step(0.0, end, [module.Call(**call) for call in calls], operations)


def call(kind: str, posted: float, waited_from: float, waited_until: float) -> dict[str, Any]:
    return {
        "kind": kind, "group": "g", "posted": posted, "waited_from": waited_from, "waited_until": waited_until
    }  # fmt: skip


def test_a_rank_that_comes_first_waits_and_only_what_follows_is_communication(parallel_cpu: ModuleType) -> None:
    early = step(parallel_cpu, call("allreduce", 1.0, 1.0, 5.0))
    late = step(parallel_cpu, call("allreduce", 4.0, 4.0, 5.0))
    waiting, collectives, point_to_point = parallel_cpu.blocked([early, late])
    assert (waiting, collectives, point_to_point) == (1.5, 1.0, 0.0)  # means of (3, 0) and of (1, 1)


def test_a_receive_is_held_against_the_send_that_fills_it(parallel_cpu: ModuleType) -> None:
    sender = step(parallel_cpu, call("recv", 0.0, 8.0, 8.5), call("send", 6.0, 6.0, 6.0))
    receiver = step(parallel_cpu, call("recv", 2.0, 3.0, 7.0), call("send", 7.0, 8.0, 8.5))
    waiting, collectives, point_to_point = parallel_cpu.blocked([sender, receiver])
    assert (waiting, collectives, point_to_point) == (3.0 / 2, 0.0, (0.5 + 1.0 + 0.5) / 2)


def test_the_shares_of_a_step_add_up_to_one(parallel_cpu: ModuleType) -> None:
    spent = parallel_cpu.Spent
    one, apart = spent(8.0, 0.0, 0.0, 0.0, 7.0, 1.0), spent(9.0, 0.0, 0.0, 0.0, 7.5, 1.5)
    layout = next(each for each in parallel_cpu.LAYOUTS if each.scaling == "strong")
    found = parallel_cpu.shares(layout, spent(6.0, 0.5, 0.75, 0.25, 3.5, 1.0), one, apart)
    assert math.isclose(sum(found.values()), 1.0)
    assert math.isclose(found["efficiency"], 8.0 / (2 * 6.0))
    assert math.isclose(found["machine"], 0.5 / 6.0)


@pytest.fixture
def train_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import train_gpu

    yield train_gpu
    for name in ("train_gpu", "gpu_shapes", "common"):
        sys.modules.pop(name, None)


def gpu_benchmark(module: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train_gpu.py", *arguments, "--results", str(folder)])
    code: int = module.main()
    return code


def test_without_a_gpu_the_gpu_benchmark_says_so_and_ends_with_2(
    train_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_benchmark(train_gpu, monkeypatch, tmp_path) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_gpu_benchmark_is_predicted_without_a_gpu(
    train_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert gpu_benchmark(train_gpu, monkeypatch, tmp_path, "--predict", "--shapes", "124M", "7B") == 0
    rows = json.loads((tmp_path / "train_gpu_predicted.json").read_text())["rows"]
    found = {(row["accelerator"], row["shape"]): row for row in rows}
    assert len(found) == 3 * 2
    for card in ("A100-SXM-80GB", "H100-SXM-80GB"):
        assert not found[card, "7B"]["fits"]  # 6.7e9 · 18 bytes are more than 80 GB
        assert found[card, "7B"]["least_bytes"] > 6.65e9 * 18
    small = found["H100-SXM-80GB", "124M"]
    tokens, flops = small["tokens_per_second"], 6 * 124e6 + 12 * 12 * 768 * 1024  # and attention, of 12 layers
    assert math.isclose(small["mfu"], tokens * flops / 989.5e12, rel_tol=0.02)
    assert small["step_seconds"] > found["H200-SXM-141GB", "124M"]["step_seconds"]
    kept = json.loads((BENCHMARKS / "results" / "train_gpu_predicted.json").read_text())
    assert {(row["accelerator"], row["shape"]) for row in kept["rows"]} > set(found)


@pytest.mark.slow
def test_the_gpu_benchmark_goes_its_whole_way_on_a_cpu(tmp_path: Path) -> None:
    run("train_gpu.py", "--device", "cpu", "--shapes", "tiny", "--modes", "eager", "--results", str(tmp_path))
    found = json.loads((tmp_path / "train_gpu.json").read_text())
    (speed,) = found["speeds"]
    assert speed["tokens_per_second"] > 0
    assert speed["mfu"] > 0
    (losses,) = found["losses"]
    assert losses["fp32"][-1] < losses["fp32"][0]
    assert losses["within_tolerance"]


def test_what_the_gpu_benchmark_has_no_time_for_is_left_out_and_said_to_be(
    train_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ("--device", "cpu", "--shapes", "tiny", "--modes", "eager", "--seconds", "-1")
    assert gpu_benchmark(train_gpu, monkeypatch, tmp_path, *asked) == 0
    found = json.loads((tmp_path / "train_gpu.json").read_text())
    assert [row["left_out"] for row in found["speeds"]] == ["no time within -1 s"]
    assert found["losses"] == []


@pytest.mark.slow
def test_every_layout_is_timed_and_its_time_is_accounted_for(tmp_path: Path) -> None:
    sizes = ("--layers", "2", "--hidden", "32", "--heads", "2", "--length", "32", "--vocab", "512", "--batch", "4")
    run("parallel_cpu.py", *sizes, "--rounds", "1", "--steps", "1", "--results", str(tmp_path))
    rows = json.loads((tmp_path / "parallel_cpu.json").read_text())["rows"]
    assert len(rows) == 2 * 8
    for row in rows:
        assert math.isclose(sum(row["shares"].values()), 1.0 if row["layout"] != "one process" else 0.0)
    sent = {row["layout"]: row["shares"]["point to point"] for row in rows if row["shares"]}
    assert sent["pipeline 2, 1f1b"] > 0.0 == sent["tensor 2"]


@pytest.mark.slow
def test_a_server_under_load_loses_nothing() -> None:
    pytest.importorskip("starlette", reason="the extra megalith[serve] is not installed")
    said = run("serve.py", "--seconds", "6", "--clients", "16")
    assert "honest 200" in said and "10 MB 413" in said and "wrong" not in said
