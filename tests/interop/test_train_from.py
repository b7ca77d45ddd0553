"""`train.from`: an imported model is trained further, on any layout, with its own tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError, RecipeError
from megalith.inference import load_model
from megalith.interop.exporting import export_model
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig, Recipe
from megalith.tokens import TrainingWindows, write_shards
from megalith.tokens.shards import Shards
from megalith.training import train
from tests.inference.models import write_model
from tests.interop.oracle import VOCAB

STEPS, BATCH = 20, 8
CONFIG = ModelConfig(
    num_layers=2, hidden_size=16, num_heads=4, num_kv_heads=2, vocab_size=VOCAB, positions="rotary", norm="rmsnorm",
    activation="swiglu", bias=False, sequence_length=16, init_std=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, in bf16 as published ones are."""
    from safetensors.torch import save_file

    home = write_model(tmp_path_factory.mktemp("from") / "model")
    model = GPT(CONFIG)
    initialise(model, CONFIG, seed=11)
    save_file(
        {name: each.detach().to(torch.bfloat16) for name, each in model.named_parameters()}, home / "model.safetensors"
    )
    (home / "config.json").write_text(json.dumps(CONFIG.model_dump(mode="json")))
    return home


def tokens_of(home: Path, path: Path) -> Artifact:
    """Random tokens, with the model's tokenizer beside them."""

    def build(workspace: Workspace) -> dict[str, Any]:
        random = np.random.default_rng(0)
        for split, count in (("train", 6000), ("validation", 400)):
            ids = (random.geometric(0.1, count) % VOCAB).tolist()
            write_shards(workspace.path / split, [ids[place : place + 50] for place in range(0, count, 50)], VOCAB)
        shutil.copy(home / "tokenizer.json", workspace.path)
        return {}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=0, build=build)


def recipe(home: Path, model: dict[str, Any] | None = None, **parallel: int) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "further",
            "about": "a test",
            "model": {**CONFIG.model_dump(mode="json"), **(model or {})},
            "tokenize": {"vocab_size": VOCAB},
            "train": {
                "from": str(home), "tokens": STEPS * BATCH * 16, "global_batch_size": BATCH, "micro_batch_size": 2,
                "precision": "fp32", "learning_rate": 0.01, "warmup_tokens": 0, "schedule": "constant",
            },
            "parallel": {"tensor": 1, "pipeline": 1, "data": 1, **parallel},
        }
    )  # fmt: skip


def trained(tmp_path: Path, home: Path, name: str, **parallel: int) -> Artifact:
    tokens = tokens_of(home, tmp_path / "tokens")
    return train(recipe(home, **parallel), tmp_path / name, tokens, peak_flops_per_second=None, predicted={})


def losses(made: Artifact) -> list[float]:
    return [step["loss"] for step in json.loads((made.path / "history.json").read_text())["steps"]]


def test_it_begins_with_the_models_loss_and_goes_on_alike_on_four_ranks(home: Path, tmp_path: Path) -> None:
    one = trained(tmp_path, home, "one")
    stream = Shards(tmp_path / "tokens" / "train").stream
    inputs, targets = TrainingWindows(stream, 16, recipe(home).seed).batch(0, BATCH)
    lm = load_model(home)
    with torch.no_grad():
        logits = lm.model(torch.from_numpy(inputs))[..., :VOCAB].flatten(0, 1)
    counted = torch.from_numpy(targets).flatten()
    assert losses(one)[0] == pytest.approx(float(F.cross_entropy(logits, counted)), rel=1e-5)
    assert len(losses(one)) == STEPS
    assert losses(one)[-1] < losses(one)[0] - 0.5
    card = (export_model(one.path, tmp_path / "out", "hf").path / "README.md").read_text()
    assert "It began with the weights of model, whose licence holds here, too." in card
    assert "2,560 tokens in" in card
    four = trained(tmp_path, home, "four", tensor=2, pipeline=2)
    assert losses(four) == pytest.approx(losses(one), rel=1e-4)
    assert (one.path / "model" / "tokenizer.json").read_bytes() == (home / "tokenizer.json").read_bytes()


def test_the_weights_are_inputs_and_their_place_is_not(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "elsewhere")
    from megalith.training.initial_weights import check_origin

    one, other = (check_origin(recipe(place), tmp_path) for place in (home, tmp_path / "elsewhere"))
    assert one == other
    assert {"from/model.safetensors", "from/config.json", "from/tokenizer.json"} == one.keys()
    plain = recipe(home).model_copy(update={"train": recipe(home).train.model_copy(update={"weights_from": None})})
    assert check_origin(plain, tmp_path) == {}


def test_a_run_without_it_has_the_key_that_it_always_had() -> None:
    from megalith.training.run_settings import settings_of
    from tests.training.small import small_recipe

    settings, recorded = settings_of(small_recipe())
    assert "from" not in settings["train"]
    assert "train.from" not in recorded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 32}, "hidden_size is 32 and was 16"),
        ({"norm_epsilon": 1e-6}, "norm_epsilon is 1e-06 and was 1e-05"),
        ({"num_layers": 3}, "num_layers is 3 and was 2"),
    ],
)
def test_another_shape_is_refused_by_its_fields(changes: dict[str, Any], said: str, home: Path, tmp_path: Path) -> None:
    tokens = tokens_of(home, tmp_path / "tokens")
    with pytest.raises(RecipeError, match=said):
        train(recipe(home, changes), tmp_path / "out", tokens, peak_flops_per_second=None, predicted={})
    assert not (tmp_path / "out").exists()


def test_a_longer_context_of_rotary_positions_is_taken(home: Path, tmp_path: Path) -> None:
    from megalith.training.initial_weights import check_origin

    assert check_origin(recipe(home, {"sequence_length": 64}), tmp_path)


def test_tokens_of_another_tokenizer_are_refused(home: Path, tmp_path: Path) -> None:
    from megalith.tokens import train_tokenizer

    other = write_model(tmp_path / "other")
    train_tokenizer(["another text, another vocabulary"] * 9, 300).save(other / "tokenizer.json")
    tokens = tokens_of(other, tmp_path / "tokens")
    with pytest.raises(InputError, match="another tokenizer than the model's"):
        train(recipe(home), tmp_path / "out", tokens, peak_flops_per_second=None, predicted={})


def test_a_model_that_is_missing_is_refused(home: Path, tmp_path: Path) -> None:
    tokens = tokens_of(home, tmp_path / "tokens")
    with pytest.raises(InputError, match="this is not a model"):
        train(recipe(tmp_path / "nowhere"), tmp_path / "out", tokens, peak_flops_per_second=None, predicted={})
