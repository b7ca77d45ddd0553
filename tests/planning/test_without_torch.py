"""Planning for a cluster is arithmetic: no verb of it loads torch, which takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.planning.calibration.measured import write_table

ASK = """
import sys
from megalith.cli import app
code = app(standalone_mode=False)
loaded = {name.partition(".")[0] for name in sys.modules}
print("LOADED", *sorted(loaded & {"torch", "scipy"}), file=sys.stderr)
sys.exit(code)
"""
GPT = ["gpt2-8.3b", "cluster.name=selene", "cluster.nodes=8"]
LAYOUT = ["parallel.tensor=8", "parallel.pipeline=1", "parallel.data=8", "train.global_batch_size=64"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("runs") / "runs.csv")


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        (["--help"], False),
        (["plan", "layout", *GPT], False),
        (["plan", "budget", "--flops", "1e21"], False),
        (["plan", "budget", "--gpu-hours", "100", "--cluster", "selene", "--nodes", "1"], False),
        (["plan", "ranks", *GPT, *LAYOUT], False),
        (["plan", "timeline", *GPT, *LAYOUT, "--output", "timeline"], False),
        (["plan", "curation", "--text", "1e9"], True),
        (["plan", "validate", "RUNS", "--no-hold-out"], True),
        (["plan", "calibrate", "RUNS", "--output", "constants.json"], True),
    ],
    ids=lambda each: " ".join(each[:2]) if isinstance(each, list) else "",
)
def test_planning_for_a_cluster_does_without_torch(words: list[str], fits: bool, runs: Path, tmp_path: Path) -> None:
    """And without SciPy where nothing is fitted."""
    asked = [str(runs) if word == "RUNS" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-c", ASK, *asked], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.rpartition("LOADED")[2].split() == (["scipy"] if fits else [])
