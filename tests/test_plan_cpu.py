"""The closed loop runs, and what it prints adds up; its figures are for a quiet machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_closed_loop_predicts_and_measures_six_layouts(tmp_path: Path) -> None:
    shape = ["model.num_layers=4", "model.hidden_size=64", "model.num_heads=2", "model.sequence_length=64"]
    small = ["--set", *shape, "train.tokens=4096", "--rounds", "1", "--seconds", "0.01", "--micro-batch", "2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "plan_cpu.py"), *small, "--results", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "plan_cpu.json").read_text())
    assert [row["processes"] for row in found["rows"]] == [1, 2, 2, 2, 4, 2]
    for row in found["rows"]:
        assert len(row["all_step_seconds"]) >= 5
        assert row["predicted_seconds"] == pytest.approx(sum(row["parts"].values()))
        assert row["predicted_over_measured"] == pytest.approx(row["predicted_seconds"] / row["measured_seconds"])
        assert row["layout"].split(",")[0] in done.stdout
