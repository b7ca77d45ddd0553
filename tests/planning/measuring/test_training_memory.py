"""Bytes by part, and what the probe counts against what autograd really keeps."""

import pytest
import torch

from megalith.errors import ResourceError
from megalith.model import GPT
from megalith.planning.measuring.step_times import saved_bytes
from megalith.planning.measuring.training_memory import refuse_what_cannot_fit, training_memory
from megalith.recipe import ModelConfig, ParallelConfig


def small(layers: int = 3, **options: object) -> ModelConfig:
    shape = {"num_layers": layers, "hidden_size": 64, "num_heads": 2, "sequence_length": 48, "vocab_size": 256}
    return ModelConfig.model_validate({**shape, **options})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_kept_grows_by_layers_and_sequences_as_the_probe_says(precision: str) -> None:
    """Predicted from 1 and 2 layers × 1 and 2 sequences; counted here at 5 layers × 3 sequences."""
    config = small(5)
    saved = saved_bytes(config, precision)
    predicted = (saved["constant"] + 5 * saved["per_layer"] + 3 * saved["per_sequence"]
                 + 15 * saved["per_layer_and_sequence"])  # fmt: skip
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = GPT(config).to(dtype)
    model.token_embedding.float(), model.position_embedding.float()
    model.activation_dtype = dtype
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tokens = torch.zeros(3, 49, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(tokens[:, :-1], tokens[:, 1:])
    assert sum(seen.values()) == pytest.approx(predicted, rel=0.01)
    del loss


def test_a_plain_layer_keeps_what_the_formula_says() -> None:
    """2205.05198 counts 34·s·b·h bytes in half precision with two dropout masks, and attention's 5·a·s²·b, which the
    fused attention does not keep. In fp32 without dropout: 2 norms' inputs (8), 2 norms' outputs (8), q, k, v (12),
    attention's output (4), GELU's input and output (32), and one number per head and token."""
    per_token = saved_bytes(small(), "fp32")["per_layer_and_sequence"] / 48 / 64
    assert per_token == pytest.approx(8 + 8 + 12 + 4 + 32, rel=0.1)


def test_the_parts_add_up_and_processes_multiply_them() -> None:
    saved = {"constant": 1e6, "per_layer": 2e6, "per_sequence": 3e6, "per_layer_and_sequence": 4e6}
    one, two = (training_memory(small(), 4, ParallelConfig(data=data), "fp32", saved, 10**8) for data in (1, 2))
    assert all(two[part] == pytest.approx(2 * one[part], abs=1) for part in one)
    parameters = sum(parameter.numel() for parameter in GPT(small()).parameters())
    assert one["weights"] + one["gradients"] + one["optimizer"] == 16 * parameters
    assert one["activations"] >= 1e6 + 3 * 2e6 + 4 * 3e6 + 12 * 4e6


def test_a_model_whose_state_does_not_fit_is_refused_with_one_that_would() -> None:
    refuse_what_cannot_fit(small(), 10**9)
    with pytest.raises(ResourceError, match="million parameters or fewer"):
        refuse_what_cannot_fit(small(), 10**6)
