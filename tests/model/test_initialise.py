"""The weights that a model starts from."""

import math

import pytest
import torch

from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig

CONFIG = ModelConfig(num_layers=8, hidden_size=64, num_heads=2, vocab_size=512, sequence_length=16)


def fresh(config: ModelConfig = CONFIG, seed: int = 5) -> dict[str, torch.Tensor]:
    model = GPT(config)
    initialise(model, seed)
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


def test_norms_are_one_and_biases_zero() -> None:
    weights = fresh()
    assert all(torch.all(value == 1) for name, value in weights.items() if name.endswith("norm.weight"))
    assert all(torch.all(value == 0) for name, value in weights.items() if name.endswith("bias"))
    assert sum(name.endswith("bias") for name in weights) == 8 * 8 + 1


def test_fp64_models_start_from_the_same_weights() -> None:
    model = GPT(CONFIG).double()
    initialise(model, 5)
    assert all(torch.equal(value.float(), fresh()[name]) for name, value in model.state_dict().items())
