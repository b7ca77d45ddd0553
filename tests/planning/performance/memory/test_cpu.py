"""A real training step in a process of its own: how much the process grows, beside what is foretold."""

import json
import subprocess
import sys

import pytest

_STEPS = """
import json, sys
import torch
from megalith.parallel import Mesh, build_mesh, clip_factor, parallelize
from megalith.topology import this_machine
from megalith.planning.dryrun.step import blank_batch
from megalith.planning.performance.memory import estimate_memory
from megalith.job import Job
from megalith.recipe import Recipe
from megalith.topology import Layout
from megalith.parallel import Optimizer

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

def recipe(size, **model):
    shape = {"num_layers": 6, "hidden_size": 384, "num_heads": 6, "sequence_length": 256, "vocab_size": 8192}
    train = {"tokens": 10**6, "global_batch_size": size, "micro_batch_size": size, "precision": "fp32"}
    return Recipe.model_validate({"name": "a", "about": "a", "model": shape | model, "train": train,
        "parallel": {"tensor": 1, "pipeline": 1, "data": 1}, "tokenize": {"vocab_size": (shape | model)["vocab_size"]}})

def steps(recipe, count):
    ranks = build_mesh(Mesh(), recipe.parallel)
    model = parallelize(recipe.model, recipe.parallel, ranks, dtype=torch.float32, seed=1)
    optimizer = Optimizer(model.masters, recipe.train)
    for _ in range(count):
        batch = blank_batch(recipe.model, recipe.train.micro_batch_size, ranks.device)
        model.gradients.zero()
        model.forward_backward([batch], [1e-3], [0])
        model.reduce_gradients()
        model.gradients.scale(clip_factor(model.gradient_norm(), 1.0))
        optimizer.update(1e-4)
        model.copy_master_weights()

more = json.loads(sys.argv[1])
steps(recipe(2, **more, num_layers=1, sequence_length=32, vocab_size=512), 1)  # what the libraries take at first
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
steps(recipe(16, **more), 2)
job = Job(recipe(16, **more).model, this_machine(), Layout(), 16, 16, precision="fp32")
print(json.dumps({"grown": status("VmHWM") - before, "foretold": estimate_memory(job).worst.device_bytes}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"dropout": 0.1}], ids=["gpt", "dropout"])
def test_a_process_grows_by_what_is_foretold(more: dict[str, float]) -> None:
    """Models of 1.1 GB and 1.8 GB; skipped where /proc is missing."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the growth is read from /proc")
    done = subprocess.run([sys.executable, "-c", _STEPS, json.dumps(more)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["foretold"] == pytest.approx(found["grown"], rel=0.10)
