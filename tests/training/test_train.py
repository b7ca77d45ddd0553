"""The train stage from outside: what it leaves, what it refuses, and what it does when it is killed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from megalith.arithmetic import flops_per_token
from megalith.artifacts import Artifact, open_artifact, set_aside
from megalith.errors import InputError, MegalithError, RecipeError, ResourceError, UnsupportedError
from megalith.model import GPT
from megalith.recipe import ModelConfig
from megalith.tokens import Shards
from megalith.training.train import check
from tests.training import forked, small

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
        *(f"{last}/{name}" for name in ("shard-00000.safetensors", "index.json", "state.json")),
        *(f"checkpoints/{name}" for name in ("latest", "steps.jsonl", "validation.jsonl")),
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
    flops_of_a_step = 8 * 16 * flops_per_token(small.small_recipe().model)
    assert facts["flops_per_second"] == pytest.approx(flops_of_a_step / facts["step_seconds"])
    assert facts["mfu"] == pytest.approx(facts["flops_per_second"] / 1e11)
    assert facts["tokens_per_second"] == pytest.approx(facts["tokens"] / facts["seconds"])
    assert facts["predicted"] == {"step_seconds": 0.5}
    pair = {"predicted": 0.5, "measured": facts["step_seconds"], "measured_over_predicted": facts["step_seconds"] / 0.5}
    assert facts["compared"] == {"step_seconds": pair}
    assert set(facts["phases"]) == {
        "data", "forward_backward", "reduce", "norm", "optimizer", "publish", "validation", "checkpoint"
    }  # fmt: skip
    assert facts["processes"] == 1
    assert facts["resumed_at_step"] is None
    assert facts["skipped_steps"] == 0
    assert 1e8 < facts["peak_memory_bytes"] < 2e9


def test_unigram_entropy_is_that_of_the_predicted_validation_tokens(whole: Artifact) -> None:
    targets = Shards(whole.path.parent / "tokens" / "validation").stream[1:].tolist()
    shares = [targets.count(token) / len(targets) for token in set(targets)]
    assert whole.facts["unigram_entropy"] == pytest.approx(-sum(share * np.log(share) for share in shares))


def test_a_command_killed_in_a_save_leaves_no_process_and_ends_with_the_same_bytes(
    whole: Artifact, tmp_path: Path
) -> None:
    checkpoints = tmp_path / ".train.partial" / "checkpoints"
    process = small.start(tmp_path)
    small.wait_until(lambda: any(checkpoints.glob("*.unfinished")), process)
    children = small.kill(process)
    assert len(children) == 1
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, "a training process outlived its parent"

    resumed = small.run(tmp_path, small.small_recipe())
    for name in OUTPUTS:
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert resumed.digest == whole.digest


def test_zero_bubble_schedules_are_refused_for_compiled_layers() -> None:
    recipe = small.small_recipe(parallel={"pipeline": 2, "schedule": "zb-h1"}, compile=True)
    with pytest.raises(UnsupportedError, match="compiled layers cannot run zb-h1") as raised:
        check(recipe)
    assert raised.value.where == "train.compile"
    assert check(small.small_recipe(parallel={"pipeline": 2, "schedule": "1f1b"}, compile=True)) == 2


def test_a_run_that_diverges_is_stopped_and_the_learning_rate_is_named(tmp_path: Path) -> None:
    recipe = small.small_recipe(
        model={"init_std": 1e30}, tokens=8 * 16 * 30, batch_ramp=None, micro_batch_size=8, clip_norm=None
    )
    with pytest.raises(MegalithError, match="not been finite for 20 steps") as raised:
        small.run(tmp_path, recipe)
    assert raised.value.where == "train.learning_rate"
    assert not isinstance(raised.value, ResourceError)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"tensor": 3}, "parallel.tensor"),
        ({"pipeline": 5}, "parallel.pipeline"),
        ({"data": 3}, "train.global_batch_size"),
        ({"data": 2, "zero": 1, "zero_shard": 3}, "parallel.zero_shard"),
        ({"pipeline": 2, "schedule": "interleaved-1f1b"}, "parallel.virtual_stages"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_before_a_process_starts(settings: dict[str, Any], where: str) -> None:
    recipe = small.small_recipe()
    parallel = recipe.parallel.model_copy(update=settings)
    with pytest.raises(RecipeError) as raised:
        check(recipe.model_copy(update={"parallel": parallel}))
    assert raised.value.where == where
    assert raised.value.mend


def test_a_recipe_that_the_plan_has_not_filled_in_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train\.precision"):
        check(small.small_recipe(precision="auto"))


def test_a_ramp_that_does_not_split_over_the_ranks_trains_on_the_same_samples(tmp_path: Path) -> None:
    """Batches of 3 and 6 sequences over 2 ranks: what is missing is filled up with samples that do not count."""
    ramp = {"global_batch_size": 12, "batch_ramp": {"start": 3, "increment": 3, "tokens": 200}, "tokens": 12 * 16 * 4}
    found = {}
    for data in (1, 2):
        recipe = small.small_recipe(data, model={"dropout": 0.0}, micro_batch_size=1, **ramp)
        task = forked.task_of(tmp_path / str(data), recipe)
        forked.train([task])
        found[data] = [step["loss"] for step in forked.steps_of(task)]
    assert len(found[1]) > 4
    assert found[2] == pytest.approx(found[1], rel=1e-5)


def test_ranks_that_torchrun_has_started_work_in_place(whole: Artifact, tmp_path: Path) -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    digest, said = small.start(tmp_path, environment).communicate()
    assert digest, said
    assert json.loads(digest) == whole.digest


def test_a_setting_that_changes_no_weight_lets_a_run_stand_and_another_is_refused_with_both_values(
    whole: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = whole.path.parent
    assert small.run(directory, small.small_recipe(validation_interval=7)).digest == whole.digest
    assert "train.validation_interval was 5 and is 7 now" in capfd.readouterr().err
    with pytest.raises(RecipeError, match=r"train\.learning_rate was 0\.01 and is 0\.02 now"):
        small.run(directory, small.small_recipe(learning_rate=0.02))
    assert (whole.path / "model/model.safetensors").is_file()


def test_a_run_killed_half_way_is_refused_for_other_settings_set_aside_and_never_removed(tmp_path: Path) -> None:
    checkpoints = tmp_path / ".train.partial" / "checkpoints"
    process = small.start(tmp_path)
    small.wait_until(lambda: (checkpoints / "latest").is_file(), process)
    small.kill(process)
    stood = (checkpoints / "latest").read_text()
    with pytest.raises(RecipeError, match=r"train\.learning_rate was 0\.01 and is 0\.02 now"):
        small.run(tmp_path, small.small_recipe(learning_rate=0.02))
    assert (checkpoints / "latest").read_text() == stood
    with set_aside():
        other = small.run(tmp_path, small.small_recipe(learning_rate=0.02, tokens=2 * 8 * 16, batch_ramp=None))
    assert other.facts["resumed_at_step"] is None
    assert (tmp_path / "train.aside-1/checkpoints/latest").read_text() == stood


def test_the_micro_batch_is_recorded_and_with_dropout_the_tensor_axis_is_part_of_the_key(whole: Artifact) -> None:
    manifest = whole.manifest
    assert manifest.settings["parallel"] == {"tensor": 1, "sequence_parallel": False}
    assert manifest.recorded["parallel.data"] == 1
    assert manifest.recorded["train.micro_batch_size"] == 2
    assert set(manifest.machine) == {"processor", "accelerator", "processes", "threads_per_process"}
    assert small.run(whole.path.parent, small.small_recipe(micro_batch_size=4)).digest == whole.digest


def test_tokens_that_were_changed_in_place_are_not_trained_on(tmp_path: Path) -> None:
    recipe = small.small_recipe(tokens=2 * 8 * 16, batch_ramp=None)
    small.make_tokens(tmp_path / "tokens")
    content = bytearray((tmp_path / "tokens/train.bin").read_bytes())
    content[100] ^= 1
    (tmp_path / "tokens/train.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"train\.bin has been changed"):
        open_artifact(tmp_path / "tokens", "tokenize")
    assert not small.make_tokens(tmp_path / "tokens").reused
    small.run(tmp_path, recipe)
