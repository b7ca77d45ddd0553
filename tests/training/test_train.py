"""The train stage from outside: what it leaves, what it refuses, and what it does when it is killed."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from megalith.artifacts import Artifact
from megalith.errors import MegalithError, RecipeError, ResourceError, UnsupportedError
from megalith.model import GPT
from megalith.recipe import ModelConfig, Recipe
from megalith.tokens import Shards
from megalith.training.train import check
from tests.training import small

OUTPUTS = ("model/model.safetensors", "history.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small run, left alone."""
    return small.run(tmp_path_factory.mktemp("whole"), small.small_recipe())


def test_the_artifact_holds_model_history_checkpoint_and_logs(whole: Artifact) -> None:
    names = {output.path for output in whole.manifest.outputs if not output.path.startswith("logs/")}
    last = f"checkpoints/step-{small.STEPS:08d}"
    assert names == {
        "history.json",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        *(f"{last}/{name}" for name in ("model.safetensors", "optimizer.safetensors", "state.json")),
    }
    config = ModelConfig.model_validate_json((whole.path / "model/config.json").read_text())
    GPT(config).load_state_dict(load_file(whole.path / "model/model.safetensors"))
    assert (whole.path / "model/tokenizer.json").read_text() == '{\n "of": "the test"\n}\n'
    assert list((whole.path / "logs/tensorboard").glob("events.*"))


def test_the_history_counts_tokens_through_the_ramp_and_the_loss_falls(whole: Artifact) -> None:
    history = json.loads((whole.path / "history.json").read_text())
    steps = history["steps"]
    assert [step["step"] for step in steps] == list(range(1, small.STEPS + 1))
    assert [step["tokens"] for step in steps[:6]] == [64, 128, 192, 256, 384, 512]
    assert set(steps[0]) == {"step", "tokens", "loss", "learning_rate", "gradient_norm"}
    assert steps[0]["loss"] == pytest.approx(np.log(small.VOCAB), abs=0.3)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3
    assert [record["step"] for record in history["validation"]] == [5, 10, 14]


def test_the_facts_are_whole_and_agree_with_each_other(whole: Artifact) -> None:
    facts = whole.facts
    assert facts["steps"] == small.STEPS
    assert facts["tokens"] == small.small_recipe().train.tokens
    assert facts["mfu"] == pytest.approx(facts["flops_per_second"] / 1e11)
    assert facts["tokens_per_second"] == pytest.approx(facts["tokens"] / facts["seconds"])
    assert facts["predicted"] == {"step_seconds": 0.5}
    assert facts["processes"] == 1
    assert facts["resumed_at_step"] is None
    assert facts["skipped_steps"] == 0
    assert 1e8 < facts["peak_memory_bytes"] < 2e9


def test_unigram_entropy_is_that_of_the_predicted_validation_tokens(whole: Artifact) -> None:
    targets = Shards(whole.path.parent / "tokens" / "validation").stream[1:].tolist()
    shares = [targets.count(token) / len(targets) for token in set(targets)]
    assert whole.facts["unigram_entropy"] == pytest.approx(-sum(share * np.log(share) for share in shares))


def test_a_run_terminated_killed_and_killed_mid_save_ends_with_the_same_bytes(whole: Artifact, tmp_path: Path) -> None:
    checkpoints = tmp_path / ".train.partial" / "checkpoints"

    process = small.start(tmp_path, 1)
    small.wait_until(lambda: small.steps_logged(tmp_path) >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "the same command takes it up again" in process.communicate()[1]
    stopped_at = small.steps_logged(tmp_path)
    assert (checkpoints / f"step-{stopped_at:08d}").is_dir()

    process = small.start(tmp_path, 1)
    small.wait_until(lambda: any(checkpoints.glob("*.unfinished")), process)
    children = small.kill(process)
    assert len(children) == 1

    process = small.start(tmp_path, 1)
    before = small.steps_logged(tmp_path)
    small.wait_until(lambda: small.steps_logged(tmp_path) > before, process)
    time.sleep(random.uniform(0, 0.05))
    children += small.kill(process)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, "a training process outlived its parent"

    process = small.start(tmp_path, 1)
    digest, said = process.communicate()
    assert process.returncode == 0, said
    for name in OUTPUTS:
        assert (tmp_path / "train" / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert json.loads(digest) == whole.digest


def test_a_dead_rank_takes_the_job_down_in_seconds_and_the_run_goes_on_after(tmp_path: Path) -> None:
    process = small.start(tmp_path, 2)
    small.wait_until(lambda: small.steps_logged(tmp_path) >= 5, process)
    ranks = sorted(psutil.Process(process.pid).children(), key=lambda child: child.pid)
    ranks[1].kill()
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert "ResourceError" in said
    assert "was killed (signal 9)" in said
    assert not psutil.wait_procs(ranks, timeout=5)[1]

    resumed = small.run(tmp_path, small.small_recipe(2))
    assert resumed.facts["resumed_at_step"] == 4
    assert resumed.facts["processes"] == 2


def test_a_run_that_diverges_is_stopped_and_the_learning_rate_is_named(tmp_path: Path) -> None:
    recipe = small.small_recipe(
        model={"init_std": 1e30}, tokens=8 * 16 * 30, batch_ramp=None, micro_batch_size=8, clip_norm=None
    )
    with pytest.raises(MegalithError, match="not been finite for 20 steps") as raised:
        small.run(tmp_path, recipe)
    assert raised.value.where == "train.learning_rate"
    assert not isinstance(raised.value, ResourceError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parallel.tensor", 2),
        ("parallel.pipeline", 2),
        ("parallel.zero", 1),
        ("parallel.recompute", "full"),
        ("train.precision", "fp16"),
        ("model.positions", "relative"),
    ],
)
def test_what_cannot_be_trained_yet_is_refused_by_its_key(key: str, value: Any) -> None:
    values = small.small_recipe().model_dump()
    section, name = key.split(".")
    values[section][name] = value
    with pytest.raises(UnsupportedError, match="not yet trained") as raised:
        check(Recipe.model_validate(values))
    assert raised.value.where == key
    assert raised.value.mend


def test_a_recipe_that_the_plan_has_not_filled_in_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train\.precision"):
        check(small.small_recipe(precision="auto"))


def test_a_ramp_that_does_not_split_into_micro_batches_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"batch_ramp\.start.*not a multiple"):
        check(small.small_recipe(data=2, batch_ramp={"start": 2, "increment": 2, "tokens": 64}))


def test_ranks_that_torchrun_has_started_work_in_place(whole: Artifact, tmp_path: Path) -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    digest, said = small.start(tmp_path, 1, environment).communicate()
    assert digest, said
    assert json.loads(digest) == whole.digest
