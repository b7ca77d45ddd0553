"""Planning for a cluster is arithmetic: no verb of it loads torch, which takes seconds."""

import json
import subprocess
import sys

import pytest

from tests.planning.calibration.measured import write_table

ASK = """
import json, sys
from megalith.cli import app
for words in json.loads(sys.argv[1]):
    code = app(words, standalone_mode=False)
    loaded = {name.partition(".")[0] for name in sys.modules}
    print("LOADED", json.dumps([code or 0, sorted(loaded & {"torch", "scipy"})]), file=sys.stderr)
"""
GPT = ["gpt2-8.3b", "cluster.name=selene", "cluster.nodes=8"]
LAYOUT = ["parallel.tensor=8", "parallel.pipeline=1", "parallel.data=8", "train.global_batch_size=64"]
ON_PAPER = [
    ["--help"],
    ["plan", "layout", *GPT],
    ["plan", "budget", "--flops", "1e21"],
    ["plan", "budget", "--gpu-hours", "100", "--cluster", "selene", "--nodes", "1"],
    ["plan", "ranks", *GPT, *LAYOUT],
    ["plan", "timeline", *GPT, *LAYOUT, "--output", "timeline"],
]
FITTED = [
    ["plan", "curation", "--text", "1e9"],
    ["plan", "validate", "RUNS", "--no-hold-out"],
    ["plan", "calibrate", "RUNS", "--output", "constants.json"],
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Which of torch and SciPy one process has loaded after each verb, those that fit last."""
    folder = tmp_path_factory.mktemp("runs")
    runs = write_table(folder / "runs.csv")
    asked = [[str(runs) if word == "RUNS" else word for word in words] for words in ON_PAPER + FITTED]
    command = [sys.executable, "-c", ASK, json.dumps(asked)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line[7:]) for line in done.stderr.splitlines() if line.startswith("LOADED ")]
    assert [code for code, _ in told] == [0] * len(asked), done.stderr
    return [names for _, names in told]


@pytest.mark.parametrize("words", ON_PAPER + FITTED, ids=lambda words: " ".join(words[:3]))
def test_planning_for_a_cluster_does_without_torch(words: list[str], loaded: list[list[str]]) -> None:
    """And without SciPy where nothing is fitted."""
    found = loaded[(ON_PAPER + FITTED).index(words)]
    assert found == [] if words in ON_PAPER else "torch" not in found
