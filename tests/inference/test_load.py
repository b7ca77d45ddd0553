"""A model is read whole, or the reason is given."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megalith.errors import InputError
from megalith.inference import LanguageModel, load_model, model_digests


@pytest.fixture
def copy(model_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_directory, tmp_path / "copy"))


def test_a_train_artifact_and_its_model_directory_are_the_same_model(model_directory: Path, lm: LanguageModel) -> None:
    from_parent = load_model(model_directory.parent)
    assert not lm.model.training
    for name, weight in lm.model.state_dict().items():
        assert torch.equal(weight, from_parent.model.state_dict()[name])
    assert model_digests(model_directory) == model_digests(model_directory.parent)


def test_the_weights_are_those_of_the_file(model_directory: Path, lm: LanguageModel) -> None:
    stored = load_file(model_directory / "model.safetensors")
    assert torch.equal(lm.model.token_embedding.weight, stored["token_embedding.weight"])


def test_each_token_stands_for_as_many_bytes_as_it_decodes_to(lm: LanguageModel) -> None:
    text = "Naïve visitors ask: “How?” 石は重い。 😀"
    ids = lm.tokenizer.encode(text)
    assert sum(lm.token_bytes[number] for number in ids) == len(text.encode())


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        load_model(copy)


def test_truncated_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short or damaged"):
        load_model(copy)


def test_weights_of_another_shape_are_refused_and_named(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    with pytest.raises(InputError, match=r"token_embedding\.weight is \(512, 16\) and should be \(512, 32\)"):
        load_model(copy)


def test_fewer_layers_than_the_configuration_says_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_layers": 3}))
    with pytest.raises(InputError, match=r"layers\.2\.\S+ is missing"):
        load_model(copy)


def test_weights_that_are_not_finite_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["final_norm.weight"][0] = torch.nan
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(InputError, match=r"final_norm\.weight.*diverged"):
        load_model(copy)


def test_a_damaged_configuration_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"num_layers": ')
    with pytest.raises(InputError, match="configuration"):
        load_model(copy)


def test_a_tokenizer_that_is_too_large_for_the_model_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "vocab_size": 300, "vocab_multiple": 512}))
    with pytest.raises(InputError, match="do not belong together"):
        load_model(copy)
