"""Architectures of GGUF as data: metadata ↔ fields of ModelConfig, and tensors ↔ tensors, read in both directions.

Names are those of llama.cpp (`gguf-py/gguf/constants.py`, `src/llama-arch.cpp`). A Llama's rotary pairs lie side by
side there; every other architecture has them as transformers has.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ValidationError

from megalith.errors import InputError, UnsupportedError
from megalith.interop.entries import Entry, fused, linear
from megalith.model.rotary import rates
from megalith.recipe import ModelConfig, RotaryScaling
from megalith.recipe.yaml_values import shorten

ARCHITECTURE = "general.architecture"
RATES = "rope_freqs.weight"
"""Divisors of the rotary rates: how GGUF holds Llama 3's scaling."""
_LLAMA3 = tuple(
    RotaryScaling(
        kind="llama3", factor=factor, original_length=8192, low_frequency_factor=1.0, high_frequency_factor=4.0
    )
    for factor in (8.0, 32.0)
)
"""The scalings of Llama 3.1 and of 3.2 and 3.3."""

_SHAPE = {
    "block_count": "num_layers",
    "context_length": "sequence_length",
    "embedding_length": "hidden_size",
    "feed_forward_length": "ffn_hidden_size",
    "attention.head_count": "num_heads",
}
_GROUPED = {
    **_SHAPE,
    "attention.head_count_kv": "num_kv_heads",
    "attention.key_length": "head_size",
    "attention.layer_norm_rms_epsilon": "norm_epsilon",
    "rope.freq_base": "rotary_base",
}
_L = "blk.{n}."
_ENDS = (
    Entry("token_embd.weight", ("token_embedding.weight",), padded=True),
    Entry("output.weight", ("output.weight",), padded=True),
    *linear("output_norm", "final_norm"),
)
_PRE_NORMS = (
    *linear(f"{_L}attn_norm", "layers.{n}.attention_norm"),
    *linear(f"{_L}ffn_norm", "layers.{n}.mlp_norm"),
)
_VALUE = linear(f"{_L}attn_v", "layers.{n}.attention.value")
_REST = (
    *linear(f"{_L}attn_output", "layers.{n}.attention.output"),
    *linear(f"{_L}attn_q_norm", "layers.{n}.attention.query_norm"),
    *linear(f"{_L}attn_k_norm", "layers.{n}.attention.key_norm"),
    *linear(f"{_L}ffn_gate", "layers.{n}.mlp.gate"),
    *linear(f"{_L}ffn_up", "layers.{n}.mlp.up"),
    *linear(f"{_L}ffn_down", "layers.{n}.mlp.down"),
)
_PLAIN_QKV = (
    *_VALUE,
    *linear(f"{_L}attn_q", "layers.{n}.attention.query"),
    *linear(f"{_L}attn_k", "layers.{n}.attention.key"),
)
_PAIRED_QKV = (
    *_VALUE,
    *linear(f"{_L}attn_q", "layers.{n}.attention.query", interleaved=1),
    *linear(f"{_L}attn_k", "layers.{n}.attention.key", interleaved=2),
)
_FUSED = fused(f"{_L}attn_qkv")
_LLAMA_LIKE: Mapping[str, Any] = {
    "family": "gpt", "positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One value of general.architecture."""

    name: str
    fields: Mapping[str, str]
    """Keys after the architecture's name, and fields of ModelConfig."""
    fixed: Mapping[str, Any]
    entries: tuple[Entry, ...]
    biases: Literal["none", "qkv", "any", "all"] = "none"
    """Linear layers with biases: none, query, key and value, whatever tensors say, or all."""

    @property
    def is_rotary(self) -> bool:
        return "rope.freq_base" in self.fields


ARCHITECTURES = (
    Architecture("llama", _GROUPED, _LLAMA_LIKE, (*_ENDS, *_PRE_NORMS, *_PAIRED_QKV, *_REST), biases="any"),
    Architecture("qwen2", _GROUPED, _LLAMA_LIKE, (*_ENDS, *_PRE_NORMS, *_PLAIN_QKV, *_REST), biases="qkv"),
    Architecture(
        "qwen3", _GROUPED, {**_LLAMA_LIKE, "query_key_norm": "head"}, (*_ENDS, *_PRE_NORMS, *_PLAIN_QKV, *_REST)
    ),
    Architecture(
        "olmo2",
        _GROUPED,
        {**_LLAMA_LIKE, "layer_norm": "reordered", "query_key_norm": "whole"},
        (
            *_ENDS,
            *linear(f"{_L}post_attention_norm", "layers.{n}.attention_norm"),
            *linear(f"{_L}post_ffw_norm", "layers.{n}.mlp_norm"),
            *_PLAIN_QKV,
            *_REST,
        ),
    ),
    Architecture(
        "gptneox",
        {
            **_SHAPE,
            "attention.layer_norm_epsilon": "norm_epsilon",
            "rope.freq_base": "rotary_base",
            "use_parallel_residual": "parallel_residual",
        },
        {"family": "gpt", "positions": "rotary", "norm": "layernorm", "activation": "gelu_exact", "bias": True},
        (*_ENDS, *_PRE_NORMS, *_FUSED, *_REST),
        biases="all",
    ),
    Architecture(
        "gpt2",
        {**_SHAPE, "attention.layer_norm_epsilon": "norm_epsilon"},
        {"family": "gpt", "positions": "learned", "norm": "layernorm", "activation": "gelu", "bias": True},
        (*_ENDS, Entry("position_embd.weight", ("position_embedding.weight",)), *_PRE_NORMS, *_FUSED, *_REST),
        biases="all",
    ),
)
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
_REFUSED = (
    "expert_count",
    "expert_used_count",
    "attention.sliding_window_pattern",
    "logit_scale",
    "attention.clamp_kqv",
)


def read(
    fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], divisors: torch.Tensor | None, where: str
) -> tuple[Architecture, ModelConfig]:
    """The model that a file's metadata and the shapes of its tensors describe.

    Raises UnsupportedError that names the key which cannot be held.
    """
    name = fields.get(ARCHITECTURE)
    architecture = BY_NAME.get(name) if isinstance(name, str) else None
    if architecture is None:
        raise UnsupportedError(
            f"{shorten(str(name))} is not an architecture that can be imported; known are {', '.join(BY_NAME)}.",
            where=f"{where}: {ARCHITECTURE}",
        )
    own = {key.removeprefix(f"{name}."): value for key, value in fields.items() if key.startswith(f"{name}.")}
    for key in _REFUSED:
        if own.get(key):
            raise UnsupportedError(f"{shorten(str(own[key]))} cannot be held.", where=f"{where}: {name}.{key}")
    values = {ours: _shortest(own[key]) for key, ours in architecture.fields.items() if key in own}
    values |= architecture.fixed
    values["vocab_size"] = shapes.get("token_embd.weight", (0,))[0]
    values["tie_embeddings"] = "output.weight" not in shapes
    values |= _biases(architecture, shapes)
    if own.get("attention.value_length", own.get("attention.key_length")) != own.get("attention.key_length"):
        raise UnsupportedError("keys and values differ in size.", where=f"{where}: {name}.attention.value_length")
    if "attention.sliding_window" in own:
        values["sliding_window"] = own["attention.sliding_window"] or None
    if architecture.is_rotary:
        values |= _read_rotary(own, values, f"{where}: {name}")
    try:
        config = ModelConfig.model_validate(values)
        if not config.is_sized:
            raise InputError("the sizes of this model are missing.", where=f"{where}: {name}.block_count")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"this makes no model: {first['msg']}.", where=f"{where}: {first['loc']}") from error
    if config.head_size is not None and config.head_size * config.heads == config.hidden:
        config = config.model_copy(update={"head_size": None})
    return architecture, config if divisors is None else _with_divisors(config, divisors, where)


def write(architecture: Architecture, config: ModelConfig) -> dict[str, Any]:
    """The metadata of a model, by whole keys; `rate_divisors` is beside it for Llama 3's scaling."""
    resolved = {
        **{name: getattr(config, name) for name in ModelConfig.model_fields},
        "num_kv_heads": config.kv_heads,
        "head_size": config.head_dim,
        "ffn_hidden_size": config.ffn_hidden,
    }
    own = {key: resolved[ours] for key, ours in architecture.fields.items()}
    own["vocab_size"] = config.vocab_size
    if "attention.key_length" in own:
        own["attention.value_length"] = config.head_dim
    if architecture.is_rotary:
        own["rope.dimension_count"] = config.rotary_width
        own |= _write_scaling(config.rotary_scaling)
    if config.sliding_window is not None:
        own["attention.sliding_window"] = config.sliding_window
    return {ARCHITECTURE: architecture.name} | {f"{architecture.name}.{key}": value for key, value in own.items()}


def rate_divisors(config: ModelConfig) -> torch.Tensor | None:
    """The rates without scaling over the rates with it, (R / 2) in fp32, where GGUF holds the scaling so."""
    if config.rotary_scaling is None or config.rotary_scaling.kind != "llama3":
        return None
    plain = config.model_copy(update={"rotary_scaling": None})
    return (rates(plain) / rates(config)).float()


def _with_divisors(config: ModelConfig, divisors: torch.Tensor, where: str) -> ModelConfig:
    for scaling in _LLAMA3:
        scaled = config.model_copy(update={"rotary_scaling": scaling})
        wanted = rate_divisors(scaled)
        if wanted is not None and wanted.shape == divisors.shape and torch.allclose(wanted, divisors, rtol=1e-4):
            return scaled
    raise UnsupportedError(
        "these rotary rates are neither Llama 3.1's nor 3.2's, and no other can be held.", where=f"{where}: {RATES}"
    )


def _biases(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if architecture.biases == "qkv":
        return {"qkv_bias": True}
    if architecture.biases != "any":
        return {}
    qkv, rest = ("blk.0.attn_q.bias" in shapes), ("blk.0.attn_output.bias" in shapes)
    return {"bias": rest, **({"qkv_bias": qkv} if qkv != rest else {})}


def _read_rotary(own: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    head = values.get("head_size") or values["hidden_size"] // max(1, values["num_heads"])
    width = own.get("rope.dimension_count", head)
    if width != head:
        found["rotary_fraction"] = width / head
    kind = own.get("rope.scaling.type", "none")
    if kind == "none":
        return found
    if kind not in ("linear", "yarn"):
        raise UnsupportedError(f"{shorten(str(kind))} cannot be held.", where=f"{where}.rope.scaling.type")
    scaling = {"kind": kind, "factor": own.get("rope.scaling.factor", 1.0)}
    if kind == "yarn":
        scaling["original_length"] = own.get("rope.scaling.original_context_length")
    return {**found, "rotary_scaling": scaling}


def _write_scaling(scaling: RotaryScaling | None) -> dict[str, Any]:
    if scaling is None or scaling.kind == "llama3":
        return {}
    told: dict[str, Any] = {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind == "yarn":
        told["rope.scaling.original_context_length"] = scaling.original_length
    return told


def _shortest(value: Any) -> Any:
    """A number that was stored in four bytes, by its shortest decimals: 1e-5, not 9.9999997e-06."""
    stored = struct.pack("<f", value) if isinstance(value, float) else b""
    if not isinstance(value, float) or struct.unpack("<f", stored)[0] != value:
        return value
    return next(near for digits in range(1, 18) if struct.pack("<f", near := float(f"{value:.{digits}g}")) == stored)
