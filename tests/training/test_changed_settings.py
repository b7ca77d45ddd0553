"""The table of settings: each row is tried on a run that stands, and no setting of training is without a row."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megalith.artifacts import Artifact
from megalith.cli import app
from megalith.errors import InputError, MegalithError, RecipeError
from megalith.recipe import BatchRamp, ModelConfig, ParallelConfig, Recipe, TrainConfig
from megalith.recipe.base import key_of
from megalith.recipe.changes import CHANGES, change_of
from megalith.training.run_settings import settings_of
from tests.conftest import ROOT
from tests.training import small

OTHER: dict[str, Any] = {
    "train.tokens": 4 * 8 * 16,
    "train.from": "elsewhere",
    "train.from_optimizer": True,
    "train.global_batch_size": 4,
    "train.micro_batch_size": 4,
    "train.batch_ramp": BatchRamp(start=4, increment=4, tokens=64),
    "train.learning_rate": 0.02,
    "train.minimum_learning_rate": 0.005,
    "train.schedule": "linear",
    "train.warmup_tokens": 32,
    "train.decay_tokens": 200,
    "train.cooldown_tokens": 64,
    "train.optimizer": "muon",
    "train.momentum": 0.9,
    "train.optimizer_state": "int8",
    "train.beta1": 0.8,
    "train.beta2": 0.9,
    "train.epsilon": 1e-6,
    "train.weight_decay": 0.2,
    "train.clip_norm": 0.5,
    "train.z_loss": 1e-4,
    "train.document_mask": True,
    "train.precision": "bf16",
    "train.compile": True,
    "train.deterministic": True,
    "train.trace_steps": (1,),
    "train.replica_check_interval": 3,
    "train.on_spike": "skip",
    "train.spike_window": 16,
    "train.spike_score": 5.0,
    "train.validation_interval": 7,
    "train.timeout_seconds": 700.0,
    "train.elastic": 1,
    "train.validation_sequences": 3,
    "train.checkpoint_interval": 3,
    "train.checkpoints_kept": 1,
    "train.milestones": (1,),
    "train.keep_best": True,
    "train.mirror": "s3://elsewhere/run",
    "parallel.tensor": 2,
    "parallel.pipeline": 2,
    "parallel.data": 2,
    "parallel.virtual_stages": 2,
    "parallel.schedule": "gpipe",
    "parallel.schedule_file": Path("a.csv"),
    "parallel.sequence_parallel": True,
    "parallel.recompute": "full",
    "parallel.recompute_every": 2,
    "parallel.zero": 1,
    "parallel.zero_shard": 1,
    "parallel.context": 2,
    "parallel.context_method": "ring",
    "parallel.expert": 2,
    "parallel.offload_optimizer": True,
    "parallel.tensor_overlap": True,
    "train.fp8": "tensor",
    "train.cuda_graphs": True,
    "model.dropout": 0.1,
    "seed": 8,
}
"""Another value of each setting than the recipe's below has."""
ELSEWHERE = {"blend", "inputs.tokens", "inputs.from"}
"""Rows that are no single key of a recipe; test_branch.py and test_initial_weights.py try them."""


def recipe_of(**train: Any) -> Recipe:
    return small.small_recipe(
        model={"dropout": 0.0}, tokens=2 * 8 * 16, batch_ramp=None, checkpoint_interval=100, schedule="wsd", **train
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A run of two steps."""
    return small.run(tmp_path_factory.mktemp("whole"), recipe_of())


def settings() -> Iterator[str]:
    """The dotted key of every setting that training depends on."""
    for prefix, section in (("model", ModelConfig), ("train", TrainConfig), ("parallel", ParallelConfig)):
        for name in section.model_fields:
            yield f"{prefix}.{key_of(section, name)}"
    yield "seed"


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    assert set(CHANGES) == set(settings()) | ELSEWHERE
    assert set(OTHER) == {key for key in CHANGES if not key.startswith("model.")} - ELSEWHERE | {"model.dropout"}


def changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    """The recipe with another value, unchecked: what a value excludes is not asked here."""
    section, _, name = key.rpartition(".")
    if not section:
        return recipe.model_copy(update={name: value})
    name = {"from": "weights_from"}.get(name, name)
    inner = getattr(recipe, section).model_copy(update={name: value})
    return recipe.model_copy(update={section: inner})


@pytest.mark.parametrize("key", OTHER)
def test_a_changed_setting_resumes_or_is_refused_as_the_table_says(
    whole: Artifact, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megalith.training.launch.start", lambda *_: pytest.fail("training has begun"))
    stage = sys.modules["megalith.training.train"]
    monkeypatch.setattr(stage, "check", lambda _: 1)  # whether it can be trained is not asked here
    monkeypatch.setattr(stage, "check_origin", lambda *_: {})
    effect = CHANGES[key].effect
    recipe = changed(recipe_of(), key, OTHER[key])
    if effect == "resume":
        assert small.run(whole.path.parent, recipe).digest == whole.digest
        return
    with pytest.raises(MegalithError, match=rf"{key} was .* and is .* now|{key.replace('.', '[.]')}") as refused:
        small.run(whole.path.parent, recipe)
    assert isinstance(refused.value, RecipeError)
    assert ("--branch STEP" in (refused.value.mend or "")) == (effect == "branch")
    assert "--fresh" in (refused.value.mend or "")


@pytest.mark.parametrize("key", [key for key in CHANGES if key.startswith("model.") and key != "model.dropout"])
def test_another_model_is_another_run(key: str) -> None:
    assert CHANGES[key].effect == "refuse"
    assert key.removeprefix("model.") in {*settings_of(recipe_of())[0]["model"], *ModelConfig.LATER}


def test_other_tokens_are_refused_as_an_input_that_a_branch_may_change(whole: Artifact) -> None:
    again = whole.manifest.inputs["tokens"]
    assert change_of("inputs.tokens").effect == "branch"
    assert change_of("inputs.from/model.safetensors").effect == "refuse"
    assert change_of("blend.web").effect == "branch"
    with pytest.raises(InputError, match=rf"inputs\.tokens was {again[:12]}") as refused:
        small.run(whole.path.parent, recipe_of(), seed=1)
    assert "--branch STEP" in (refused.value.mend or "")


def test_with_dropout_the_tensor_axis_is_a_branch_and_the_micro_batch_is_not() -> None:
    recorded = settings_of(small.small_recipe())[1]
    assert "train.micro_batch_size" in recorded
    assert "parallel.tensor" not in recorded
    assert change_of("parallel.tensor", dropout=True).effect == "branch"
    assert change_of("parallel.data", dropout=True).effect == "resume"


def test_the_command_and_the_page_show_every_row() -> None:
    shown = json.loads(CliRunner().invoke(app, ["recipe", "changes", "--json"]).stdout)["changes"]
    assert {row["key"]: row["effect"] for row in shown} == {key: row.effect for key, row in CHANGES.items()}
    page = (ROOT / "docs/verbs/train.md").read_text()
    for row in CHANGES.values():
        if not row.key.startswith(("model.", "parallel.")):
            assert f"`{row.key}`" in page, row.key
