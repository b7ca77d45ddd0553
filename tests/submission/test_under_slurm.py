"""A planned run goes its whole way under a fake Slurm: data by one process, ranks by srun, a signal, the judgement."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from megalith import verbs
from megalith.submission import Submission
from tests.corpus import docstrings, write_jsonl
from tests.submission.fake_slurm import calls, install

SMALL = (
    "budget.flops=null", "model.num_layers=2", "model.hidden_size=64", "model.num_heads=2", "model.sequence_length=64",
    "model.vocab_size=512", "tokenize.vocab_size=512", "train.tokens=40960", "train.global_batch_size=8",
    "train.validation_interval=40", "train.checkpoint_interval=1000", "train.validation_sequences=8",
    "train.precision=fp32", "train.micro_batch_size=4", "curate.validation_share=0.1", "curate.task_items.most=12",
    "evaluate.items=12", "evaluate.shots=[0]", "audit.hans_examples=4",
)  # fmt: skip
CLUSTER = ("cluster=dgx-h100", "cluster.accelerators_per_node=2", "parallel.data=2")


def losses(directory: Path) -> list[float]:
    history: dict[str, Any] = json.loads((directory / "train/history.json").read_text())
    return [step["loss"] for step in history["steps"]]


def sbatch(script: Path, environment: Mapping[str, str], *, code: int = 0) -> str:
    """Run a batch script as Slurm would on its first node."""
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.slow
def test_jobs_make_the_model_that_a_run_without_a_cluster_makes(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "docs.jsonl", docstrings())
    directory = tmp_path / "run"
    made = verbs.run("quickstart", overrides=[*SMALL, *CLUSTER], source=source, output=directory)
    assert isinstance(made, Submission)
    environment = install(tmp_path / "bin")

    sbatch(made.job / "prepare.sbatch", environment)
    assert (directory / "tokenize/manifest.json").is_file()
    assert not (directory / "train").exists()

    # after 20 steps the time is nearly up: no checkpoint was due, so what is saved was saved for the signal
    metrics = directory / ".train.partial/logs/metrics.jsonl"
    warned = environment | {"FAKE_SIGNAL": "SIGUSR1", "FAKE_WHEN": f"{metrics}:20"}
    sbatch(made.job / "train.sbatch", warned, code=143)
    assert calls(environment)[-1] == "scontrol requeue 4711"
    saved = [path.name for path in (directory / ".train.partial/checkpoints").glob("step-*")]
    assert len(saved) == 1
    assert 20 <= int(saved[0].removeprefix("step-")) < 80

    said = sbatch(made.job / "train.sbatch", environment)
    assert len(losses(directory)) == 80
    assert said.count("train  train ") == 1  # one of the ranks speaks
    facts = json.loads((directory / "train/manifest.json").read_text())["facts"]
    assert (facts["processes"], facts["parallel"]["data"]) == (2, 2)
    assert facts["resumed_at_step"] == int(saved[0].removeprefix("step-"))

    sbatch(made.job / "judge.sbatch", environment)
    expedition = json.loads((directory / "expedition.json").read_text())
    assert [each["stage"] for each in expedition["artifacts"]] == [
        "curate", "tokenize", "plan", "train", "evaluate", "audit",
    ]  # fmt: skip
    assert (directory / "report.html").is_file()
    again = verbs.run("quickstart", overrides=[*SMALL, *CLUSTER], source=source, output=directory)
    assert not isinstance(again, Submission)  # it is over, and nothing is left for the cluster

    own = "parallel={tensor: 1, pipeline: 1, data: 2}"
    zero = facts["parallel"]
    same = [
        f"parallel.{key}={json.dumps(value)}"
        for key, value in zero.items()
        if key not in ("tensor", "pipeline", "data")
    ]
    alone = tmp_path / "alone"
    for stage in ("curate", "tokenize"):
        (alone / stage).parent.mkdir(exist_ok=True)
        (alone / stage).symlink_to(directory / stage)
    verbs.train("quickstart", overrides=[*SMALL, own, *same], source=source, output=alone)
    assert losses(alone) == losses(directory)
