"""The weights that a model starts from."""

import importlib
import math
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.model import BERT, GPT, initialise
from megalith.model.initialise import initial_value
from megalith.parallel import Mesh, parallelize
from megalith.recipe import ModelConfig, ParallelConfig

CONFIG = ModelConfig(num_layers=8, hidden_size=64, num_heads=2, vocab_size=512, sequence_length=16)


def fresh(config: ModelConfig = CONFIG, seed: int = 5) -> dict[str, torch.Tensor]:
    model = GPT(config)
    initialise(model, config, seed)
    return dict(model.state_dict())


def test_a_parameter_depends_on_the_seed_and_its_name_alone() -> None:
    torch.manual_seed(1)
    first = fresh()
    torch.manual_seed(2)
    shallow = fresh(CONFIG.model_copy(update={"tie_embeddings": False, "norm": "rmsnorm"}))
    other = fresh(seed=6)
    for name in ("token_embedding.weight", "layers.7.attention.query.weight", "layers.0.mlp.down.weight"):
        assert torch.equal(first[name], shallow[name])
        assert not torch.equal(first[name], other[name])
    assert not torch.equal(first["layers.0.mlp.up.weight"], first["layers.1.mlp.up.weight"])


def test_residual_projections_are_drawn_smaller_by_the_root_of_twice_the_layers() -> None:
    weights = fresh()
    std = math.sqrt(1 / (3 * 64))
    for name, value in weights.items():
        if value.ndim < 2:
            continue
        residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
        expected = std / math.sqrt(2 * 8) if residual else std
        # n draws give a standard deviation within 1/√(2n) of σ: five of those errors
        assert float(value.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * value.numel())), name


def test_threads_draw_the_weights_that_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masters and model: what is narrower is rounded from the same numbers, drawn once."""
    drawn: list[str] = []

    def counting(*arguments: Any) -> torch.Tensor:
        drawn.append(arguments[1])
        return initial_value(*arguments)

    monkeypatch.setattr(importlib.import_module("megalith.parallel.parallelize"), "initial_value", counting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    alone = fresh()
    model = parallelize(CONFIG, ParallelConfig(), Mesh(), dtype=torch.bfloat16, seed=5)
    assert sorted(drawn) == sorted(alone)
    for master in model.masters:
        assert torch.equal(master.value, alone[master.name])
        assert torch.equal(master.parameter, alone[master.name].to(master.parameter.dtype))


def test_norms_are_one_and_biases_zero() -> None:
    weights = fresh()
    assert all(torch.all(value == 1) for name, value in weights.items() if name.endswith("norm.weight"))
    assert all(torch.all(value == 0) for name, value in weights.items() if name.endswith("bias"))
    assert sum(name.endswith("bias") for name in weights) == 8 * 8 + 1


def test_fp64_models_start_from_the_same_weights() -> None:
    model = GPT(CONFIG).double()
    initialise(model, CONFIG, 5)
    weights = fresh()
    assert all(torch.equal(value.float(), weights[name]) for name, value in model.state_dict().items())


def test_a_bert_s_heads_and_token_types_are_drawn_like_the_rest() -> None:
    config = ModelConfig(**{**CONFIG.model_dump(), "family": "bert", "layer_norm": "post"})
    model = BERT(config)
    initialise(model, config, 5)
    weights = dict(model.state_dict())
    assert all(torch.all(value == 1) for name, value in weights.items() if name.endswith("norm.weight"))
    assert all(torch.all(value == 0) for name, value in weights.items() if name.endswith("bias"))
    for name in ("heads.dense.weight", "heads.pooler.weight", "heads.sentence_order.weight", "token_embedding.weight"):
        error = 5 / math.sqrt(2 * weights[name].numel())
        assert float(weights[name].std()) == pytest.approx(math.sqrt(1 / (3 * 64)), rel=error), name
    assert torch.equal(weights["layers.0.mlp.up.weight"], fresh()["layers.0.mlp.up.weight"])


@st.composite
def cuts(draw: st.DrawFn, size: int) -> slice:
    first = draw(st.integers(0, size))
    return slice(first, draw(st.integers(first, size)))


BLOCK_ROWS, ROWS, COLUMNS = 3, 11, 5


@settings(deadline=None)
@given(cuts(ROWS), cuts(COLUMNS))
def test_any_part_of_a_matrix_is_drawn_as_in_the_whole(rows: slice, columns: slice) -> None:
    """A rank that holds some rows draws the blocks that they lie in alone."""
    shape = torch.Size([ROWS, COLUMNS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[initial_value.__module__], "_BLOCK", BLOCK_ROWS * COLUMNS)
        whole = initial_value(CONFIG, "a.weight", shape, (slice(0, ROWS), slice(0, COLUMNS)), seed=3)
        part = initial_value(CONFIG, "a.weight", shape, (rows, columns), seed=3)
    assert torch.equal(part, whole[rows, columns])
    assert len(torch.unique(whole)) == ROWS * COLUMNS  # no block repeats another
