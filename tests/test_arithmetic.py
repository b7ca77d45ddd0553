"""Parameters against the built model and against hand counts; FLOPs against torch's counter and published rows."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from megalith.arithmetic import (
    flops_per_token,
    kv_cache_bytes,
    layer_forward_flops,
    parameters,
    state_bytes,
    step_flops,
)
from megalith.model import GPT, MODELS
from megalith.recipe import ModelConfig

SHAPES = {
    "gpt2": {},
    "no-bias": {"bias": False},
    "untied": {"tie_embeddings": False},
    "rotary-rms": {"positions": "rotary", "norm": "rmsnorm"},
    "llama": {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "num_kv_heads": 2,
              "ffn_hidden_size": 88, "tie_embeddings": False},
    "grouped-with-bias": {"num_kv_heads": 1, "activation": "swiglu"},
    "post-norm": {"layer_norm": "post"},
    "wide-heads": {"head_size": 12, "num_kv_heads": 2},
    "reordered": {"layer_norm": "reordered"},
    "head-norm": {"query_key_norm": "head", "head_size": 16, "num_kv_heads": 1},
    "whole-norm": {"query_key_norm": "whole", "num_kv_heads": 2},
    "parallel-residual": {"parallel_residual": True, "activation": "gelu_exact"},
    "qkv-bias": {"bias": False, "qkv_bias": True, "num_kv_heads": 2},
    "no-qkv-bias": {"qkv_bias": False},
    "bert": {"family": "bert"},
    "post-norm-bert": {"family": "bert", "layer_norm": "post"},
    "bert-no-bias-untied": {"family": "bert", "bias": False, "tie_embeddings": False},
}  # fmt: skip


def small(**options: object) -> ModelConfig:
    shape = {"num_layers": 3, "hidden_size": 32, "num_heads": 4, "sequence_length": 24, "vocab_size": 300}
    return ModelConfig.model_validate({**shape, **options})


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_parameters_are_those_of_the_built_model(options: dict[str, object]) -> None:
    config = small(**options)
    built = MODELS[config.family](config)
    assert parameters(config).total == sum(parameter.numel() for parameter in built.parameters())


def test_the_parts_are_where_their_names_say() -> None:
    config = small()
    built = GPT(config)
    count = parameters(config)
    assert count.token_embedding == built.token_embedding.weight.numel() == 384 * 32  # 300 padded to 384
    assert count.position_embedding == built.position_embedding.weight.numel()
    assert count.layers == sum(parameter.numel() for parameter in built.layers.parameters())
    assert count.non_embedding == count.total - count.token_embedding - count.position_embedding


@pytest.mark.parametrize("layer_norm", ["pre", "post"])
def test_a_bert_is_an_encoder_with_its_embeddings_and_heads(layer_norm: str) -> None:
    config = small(family="bert", layer_norm=layer_norm)
    parts = nn.ModuleList(
        [
            nn.Embedding(384, 32),
            nn.Embedding(24, 32),
            nn.Embedding(2, 32),
            nn.LayerNorm(32),  # after the embedding (post), or at the end (pre)
            *[nn.TransformerEncoderLayer(32, 4, 128) for _ in range(3)],
            nn.Linear(32, 32),  # pooler
            nn.Linear(32, 2),  # sentence order
            nn.Linear(32, 32),  # masked tokens: dense
            nn.LayerNorm(32),
        ]
    )
    decoder_bias = 384
    assert parameters(config).total == sum(parameter.numel() for parameter in parts.parameters()) + decoder_bias


def test_relative_positions_add_a_projection_and_two_vectors_to_each_layer() -> None:
    relative, rotary = parameters(small(positions="relative")), parameters(small(positions="rotary"))
    assert relative.layers - rotary.layers == 3 * (32 * 32 + 2 * 32)
    assert relative.total - rotary.total == relative.layers - rotary.layers


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_forward_flops_are_what_torch_counts(options: dict[str, object]) -> None:
    """torch counts the products that it runs; grouped heads are repeated before attention, as here."""
    config = small(**options)
    tokens = torch.zeros(2, config.sequence_length, dtype=torch.long)
    bert = {"segments": tokens, "lengths": torch.full((2,), config.sequence_length)} if config.family == "bert" else {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        MODELS[config.family](config)(tokens, **bert)
    attention = 4 * config.sequence_length * config.query_width * config.layers * tokens.numel()
    counted = counter.get_total_flops()
    if bert:
        counted -= len(tokens) * 2 * (config.hidden**2 + 2 * config.hidden)  # the pooler's and the sentence order's
    if not any("attention" in str(name) for name in counter.get_flop_counts()["Global"]):
        counted += attention  # this torch has no formula for the CPU's fused attention
    assert flops_per_token(config) * tokens.numel() / 3 == counted


@pytest.mark.parametrize("window", [1, 5, 23, 24, 100])
def test_a_window_costs_its_band_of_tokens(window: int) -> None:
    """Counted pair by pair; as everywhere, as if attention were not causal."""
    seen = sum(abs(one - other) < window for one in range(24) for other in range(24)) / 24
    plain, narrow = layer_forward_flops(small()), layer_forward_flops(small(sliding_window=window))
    assert plain - narrow == pytest.approx(4 * 32 * (24 - seen), abs=1e-6)


def test_a_gpt_costs_what_megatrons_formula_says() -> None:
    """2104.04473, appendix: 72·B·s·L·h²·(1 + s/6h + V/12Lh), with recomputation 96·B·s·L·h²·(1 + s/6h + V/16Lh)."""
    layers, hidden, sequence, vocab = 105, 20480, 2048, 51200
    model = ModelConfig(num_layers=layers, hidden_size=hidden, num_heads=128, sequence_length=sequence,
                        vocab_multiple=1024)  # fmt: skip
    shared = layers * hidden**2
    plain = 72 * shared * (1 + sequence / (6 * hidden) + vocab / (12 * layers * hidden))
    recomputed = 96 * shared * (1 + sequence / (6 * hidden) + vocab / (16 * layers * hidden))
    assert flops_per_token(model) == pytest.approx(plain, rel=1e-12)
    assert flops_per_token(model, "full") == pytest.approx(recomputed, rel=1e-12)
    assert step_flops(model, 1920) == pytest.approx(plain * 1920 * sequence, rel=1e-12)


def test_training_state_is_sixteen_bytes_a_parameter() -> None:
    model = GPT(small())
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [state[key].nbytes for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    held = sum(parameter.nbytes * 2 for parameter in model.parameters()) + sum(moments)
    assert state_bytes(model.config) == held


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "convention", "tolerance"),
    [
        ("mtnlg_530b", "reported", 0.006),  # three figures are printed
        ("megatron_readme_2020", "hardware", 0.001),
        ("bloom_prequel", "Megatron hw (96", 0.0015),
    ],
)
def test_published_teraflops_follow_from_the_step_time(
    dataset: str, convention: str, tolerance: float, data_directory: Path
) -> None:
    """Hardware FLOPs with full recomputation, by the step's seconds and the GPUs, are the printed TFLOP/s."""
    with (data_directory / "measurements" / "layouts.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file)
                if row["dataset"] == dataset and row["tflops_convention"].startswith(convention)
                and row["step_time_s"] and row["tflops_gpu"] and row["vocab"]
                and int(row["hidden"]) % int(row["heads"]) == 0]  # fmt: skip
    assert len(rows) >= 3
    for row in rows:
        model = ModelConfig(
            num_layers=int(row["layers"]), hidden_size=int(row["hidden"]), num_heads=int(row["heads"]),
            ffn_hidden_size=int(row["ffn"]), sequence_length=int(row["seq"]), vocab_size=int(row["vocab"]),
            vocab_multiple=1,
        )  # fmt: skip
        flops = flops_per_token(model, "full") * int(row["gbs"]) * int(row["seq"])
        teraflops = flops / float(row["step_time_s"]) / int(row["n_gpus"]) / 1e12
        assert teraflops == pytest.approx(float(row["tflops_gpu"]), rel=tolerance), row["row_id"]


def test_bytes_of_keys_and_values_are_those_of_their_tensors() -> None:
    model = ModelConfig(num_layers=30, hidden_size=576, num_heads=9, num_kv_heads=3)
    assert kv_cache_bytes(model, 1000) == 2 * 30 * 3 * 64 * 4 * 1000
    assert kv_cache_bytes(model, 1000, number_bytes=2) == 2 * 30 * 3 * 64 * 2 * 1000
    windowed = model.model_copy(update={"sliding_window": 128})
    assert kv_cache_bytes(windowed, 1000) == kv_cache_bytes(model, 128)
    assert kv_cache_bytes(windowed, 100) == kv_cache_bytes(model, 100)
