"""Megalith's train stage as a user runs it: shards read from disk, a process of its own, deterministic algorithms.

The steps' seconds are those that the stage itself logs; they hold no validation and no checkpoint, as with the peers.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from megalith.arithmetic import parameters
from megalith.artifacts import Artifact, Workspace, produce
from megalith.recipe import Recipe
from megalith.tokens import write_shards
from megalith.training import train as train_stage
from peers import CLIP_NORM, LEARNING_RATE, WARM, Task, Trained


def train(task: Task) -> Trained:
    recipe = recipe_of(task)
    with tempfile.TemporaryDirectory() as folder:
        tokens = make_tokens(Path(folder) / "tokens", task)
        artifact = train_stage(recipe, Path(folder) / "train", tokens, peak_flops_per_second=None, predicted={})
        lines = [json.loads(line) for line in (artifact.path / "logs" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "seconds" in line]
    return Trained(
        parameters(recipe.model).total,
        [step["loss"] for step in steps],
        [step["seconds"] for step in steps[WARM:]],
        {"torch": torch.__version__},
    )


def recipe_of(task: Task) -> Recipe:
    """A sized recipe, without warmup or decay."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "about": "one shape, a few steps",
            "model": {
                "num_layers": task.layers, "hidden_size": task.hidden, "num_heads": task.heads,
                "vocab_size": task.vocab, "sequence_length": task.length,
            },
            "tokenize": {"vocab_size": task.vocab},
            "train": {
                "tokens": task.all_steps * task.sequences * task.length,
                "global_batch_size": task.sequences, "micro_batch_size": task.sequences, "precision": task.precision,
                "learning_rate": LEARNING_RATE, "schedule": "constant", "warmup_tokens": 0, "clip_norm": CLIP_NORM,
                "validation_interval": task.all_steps, "checkpoint_interval": task.all_steps,
                "validation_sequences": 1,
            },
            "parallel": {"tensor": 1, "pipeline": 1, "data": 1},
        }
    )  # fmt: skip


def make_tokens(path: Path, task: Task) -> Artifact:
    """A tokenize artifact of the task's tokens; validation has two sequences of them."""

    def build(workspace: Workspace) -> dict[str, Any]:
        ids = task.tokens()
        write_shards(workspace.path / "train", list(ids), task.vocab)
        write_shards(workspace.path / "validation", list(ids[:2]), task.vocab)
        workspace.write_json("tokenizer.json", {})
        return {}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=0, build=build)
