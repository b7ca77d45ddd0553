"""A run of a few seconds, and the command that makes it: `python -m tests.training.small DIRECTORY [AXIS=SIZE]...`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import torch

from megalith.artifacts import Artifact, Workspace, produce
from megalith.parallel import Mesh
from megalith.recipe import Recipe
from megalith.tokens import write_shards
from megalith.training import launch, loop, train
from megalith.training.elastic import Relayout
from megalith.training.task import MEASURED, TrainTask, forget_errors, write_task

VOCAB = 300
STEPS = 14


def make_tokens(path: Path, seed: int = 0) -> Artifact:
    """A tokenize artifact of text in which low numbers are frequent."""

    def build(workspace: Workspace) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        for split, count in (("train", 5000), ("validation", 700)):
            ids = (random.geometric(0.1, count) % VOCAB).tolist()
            write_shards(workspace.path / split, [ids[place : place + 50] for place in range(0, count, 50)], VOCAB)
        workspace.write_json("tokenizer.json", {"of": "the test"})
        return {}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=seed, build=build)


def small_recipe(
    data: int = 1, model: dict[str, Any] | None = None, parallel: dict[str, Any] | None = None, **train: Any
) -> Recipe:
    """A sized recipe: 14 steps of 4, then 8 sequences, with dropout, checkpoints every 4 steps."""
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": VOCAB, "sequence_length": 16}
    settings = {
        "tokens": (4 * 4 + 8 * 10) * 16,
        "global_batch_size": 8,
        "batch_ramp": {"start": 4, "increment": 4, "tokens": 4 * 4 * 16},
        "micro_batch_size": 2,
        "precision": "fp32",
        "learning_rate": 0.01,
        "validation_interval": 5,
        "validation_sequences": 5,
        "checkpoint_interval": 4,
    }
    return Recipe.model_validate(
        {
            "name": "small",
            "about": "a test",
            "seed": 7,
            "model": shape | {"dropout": 0.1} | (model or {}),
            "tokenize": {"vocab_size": VOCAB},
            "train": settings | train,
            "parallel": {"tensor": 1, "pipeline": 1, "data": data} | (parallel or {}),
        }
    )


def run(directory: Path, recipe: Recipe, seed: int = 0, relayout: Relayout | None = None) -> Artifact:
    """The train artifact at `directory`/train, on the tokens of that seed."""
    tokens = make_tokens(directory / "tokens", seed)
    predicted = {"step_seconds": 0.5}
    return train(
        recipe, directory / "train", tokens, peak_flops_per_second=1e11, predicted=predicted, relayout=relayout
    )


@contextmanager
def in_this_process() -> Iterator[None]:
    """Within the block, a run of one process trains here, without the seconds that it takes to start Python."""

    def start(task: TrainTask, processes: int) -> None:
        assert processes == 1
        forget_errors(task)
        write_task(task)
        measured = loop.run(task, Mesh(), lambda: False)
        (task.logs / MEASURED).write_text(json.dumps(measured))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with mock.patch.object(launch, "start", start):
        yield
    torch.set_num_threads(threads)


def start(directory: Path, environment: dict[str, str] | None = None, **parallel: int) -> "subprocess.Popen[str]":
    """Begin the run in a process of its own."""
    axes = [f"{axis}={size}" for axis, size in parallel.items()]
    command = [sys.executable, "-m", "tests.training.small", str(directory), *axes]
    return subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | (environment or {})
    )


def steps_logged(directory: Path) -> int:
    """How far the run has come."""
    log = directory / ".train.partial" / "logs" / "metrics.jsonl"
    return log.read_text().count("learning_rate") if log.is_file() else 0


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 300) -> None:
    """Poll until the condition holds; fails when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.0005)


def kill(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Kill -9; returns what were its children."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return children


def main() -> None:
    directory, axes = Path(sys.argv[1]), dict(each.split("=") for each in sys.argv[2:])
    recipe = small_recipe(parallel={axis: int(size) for axis, size in axes.items()})
    sys.stdout.write(json.dumps(run(directory, recipe).digest))


if __name__ == "__main__":
    main()
