"""The model section: what goes together, and that an option at its default is as if it did not exist."""

from typing import Any

import pytest
from pydantic import ValidationError

from megalith.artifacts.manifest import json_digest
from megalith.recipe import ModelConfig, load_recipe
from megalith.recipe.base import WHOLE
from megalith.recipe.loading import dump

SHAPE = {"num_layers": 2, "hidden_size": 48, "num_heads": 4, "sequence_length": 32}
ROTARY = {"positions": "rotary"}
YARN = {"kind": "yarn", "factor": 4.0, "original_length": 8}
BEFORE = {  # of the section as it was written before these options were
    "quickstart": "e0ac5480b87c6e4b486781aadb268ec02df6b7a1a7814b0ee0baa7d354de8420",
    "llama-8b": "f97acdb348973cbb3d34f67f3e9b48abc17ee59b9ff73d66300b76f78eccd771",
    "gpt3-175b": "d746e3a3f6f8d6e60c636fc918ec9e4fce2f3e6d6bf74ded5b722d0eed3a354d",
    "bert-336m": "d6832da5d9a60bc88550dbe57edaaead1043c195185a02d37603a8fdbfa9988b",
}
OTHER = {
    "head_size": 16, "norm_epsilon": 1e-6, "qkv_bias": True, "query_key_norm": "head", "rotary_fraction": 0.5,
    "rotary_scaling": YARN, "parallel_residual": True, "sliding_window": 4,
    "experts": 4, "experts_per_token": 3, "expert_hidden_size": 8, "shared_experts": 1, "dense_layers": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_keys_of_models_without_the_later_options_are_what_they_were(name: str) -> None:
    model = load_recipe(name)[0].model
    written = model.model_dump(mode="json")
    assert json_digest(written) == BEFORE[name]
    assert ModelConfig.model_validate(written) == model
    assert not set(ModelConfig.LATER) & written.keys()
    assert set(ModelConfig.LATER) < model.model_dump(context=WHOLE).keys()


@pytest.mark.parametrize("name", ModelConfig.LATER)
def test_an_option_that_is_used_is_written_and_makes_another_key(name: str) -> None:
    mixed = {"experts": 4} if "expert" in name or name == "dense_layers" else {}
    plain = ModelConfig(**SHAPE, **ROTARY, **({} if name == "experts" else mixed))
    model = ModelConfig(**SHAPE, **ROTARY, **{**mixed, name: OTHER[name]})
    written = model.model_dump(mode="json")
    assert written.keys() - plain.model_dump().keys() == {name}
    assert ModelConfig.model_validate(written) == model
    assert ModelConfig.model_validate_json(model.model_dump_json()) == model


def test_the_recipe_shows_every_option() -> None:
    assert set(ModelConfig.LATER) < dump(load_recipe("quickstart")[0])["model"].keys()


def test_an_inner_key_of_the_scaling_can_be_overridden() -> None:
    overrides = ["model.rotary_scaling.kind=linear", "model.rotary_scaling.factor=2"]
    scaling = load_recipe("llama-8b", overrides)[0].model.rotary_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor) == ("linear", 2.0)


def test_heads_may_be_wider_than_the_stream_gives() -> None:
    model = ModelConfig(num_layers=1, hidden_size=10, num_heads=4, num_kv_heads=2, head_size=8)
    assert (model.head_dim, model.query_width, model.kv_width) == (8, 32, 16)
    assert ModelConfig(**SHAPE, **ROTARY, rotary_fraction=0.5).rotary_width == 6


@pytest.mark.parametrize(("bias", "qkv_bias", "has"), [(True, None, True), (False, None, False), (False, True, True),
                                                       (True, False, False)])  # fmt: skip
def test_query_key_and_value_have_biases_of_their_own_choice(bias: bool, qkv_bias: bool | None, has: bool) -> None:
    assert ModelConfig(bias=bias, qkv_bias=qkv_bias).has_qkv_bias is has


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rotary_scaling": YARN}, "rotary_scaling is of rotary positions, and positions is learned"),
        ({"rotary_fraction": 0.5}, "rotary_fraction is of rotary positions"),
        ({**ROTARY, "rotary_fraction": 0.25}, "the head size is 12, of which 0.25 is 3"),
        ({**ROTARY, "head_size": 9}, "the head size is 9"),
        ({**ROTARY, "rotary_fraction": 0.05}, "of which 0.05 is 0"),
        ({**ROTARY, "rotary_fraction": 1.5}, "less than or equal to 1"),
        ({"num_heads": 5}, "or set head_size"),
        ({"family": "bert", "query_key_norm": "head"}, "query_key_norm is for a gpt"),
        ({"family": "bert", "sliding_window": 8}, "sliding_window is for a gpt"),
        ({"family": "bert", "parallel_residual": True}, "parallel_residual is for a gpt"),
        ({"family": "bert", "layer_norm": "reordered"}, "reordered is for a gpt"),
        ({"family": "bert", **ROTARY}, "a bert has learned positions"),
        ({"parallel_residual": True, "layer_norm": "post"}, "parallel_residual wants layer_norm: pre"),
        ({"parallel_residual": True, "layer_norm": "reordered"}, "parallel_residual wants layer_norm: pre"),
        ({**ROTARY, "rotary_scaling": {"kind": "yarn", "factor": 2}}, "yarn wants original_length"),
        ({**ROTARY, "rotary_scaling": {"kind": "llama3", "factor": 2}}, "llama3 wants original_length"),
        ({**ROTARY, "rotary_scaling": {"kind": "linear", "factor": 0.5}}, "greater than or equal to 1"),
        ({**ROTARY, "rotary_scaling": {**YARN, "kind": "linear"}}, "belongs to the kind llama3 or yarn"),
        ({**ROTARY, "rotary_scaling": {**YARN, "low_frequency_factor": 1}}, "belongs to the kind llama3, not to yarn"),
        ({**ROTARY, "rotary_scaling": YARN, "rotary_base": 1}, "yarn wants a rotary_base above 1"),
        ({**ROTARY, "rotary_scaling": {**YARN, "beta_slow": 40}}, "beta_slow is 40 and beta_fast 32"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelConfig(**{**SHAPE, **options})
