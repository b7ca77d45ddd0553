"""Parameters that a pipeline rank holds, and the bytes that our own training holds for them from step to step."""

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from megalith.parallel.pipeline import layers_of_stages
from megalith.planning.footprint.sizes import WIDE
from megalith.recipe import ModelConfig


class Held(NamedTuple):
    """Parameters of one stage on one tensor-parallel rank."""

    layers: float
    """And of the last norm: what computes in the layers' type."""
    embeddings: float
    """And of an output projection and learned positions: what computes in fp32."""

    @property
    def total(self) -> float:
        return self.layers + self.embeddings


@lru_cache(maxsize=4096)
def layer_counts(model: ModelConfig, stages: int) -> tuple[int, ...]:
    """Layers of each stage, as our own training cuts them."""
    return tuple(len(layers) for layers in layers_of_stages(model, stages))


@lru_cache(maxsize=4096)
def first_layers(model: ModelConfig, stages: int) -> tuple[int, ...]:
    """The number of each stage's first layer."""
    return tuple(accumulate(layer_counts(model, stages)[:-1], initial=0))


@lru_cache(maxsize=4096)
def layer_parameters(model: ModelConfig, tensor: int) -> float:
    """Of one layer; matrices are split over the tensor-parallel ranks, norms and row-parallel biases are not."""
    hidden, ffn, key_width = model.hidden, model.ffn_hidden, model.kv_heads * model.head_dim
    gated, bias = model.activation == "swiglu", int(model.bias)
    matrices = 2 * hidden * (hidden + key_width) + (3 if gated else 2) * hidden * ffn
    split_biases = bias * (hidden + 2 * key_width + (2 if gated else 1) * ffn)
    return (matrices + split_biases) / tensor + bias * 2 * hidden + 2 * norm_parameters(model)


def norm_parameters(model: ModelConfig) -> int:
    """Of one norm."""
    return model.hidden * (2 if model.norm == "layernorm" and model.bias else 1)


@lru_cache(maxsize=16384)
def held(model: ModelConfig, tensor: int, layers: int, *, begins: bool, ends: bool) -> Held:
    """What a stage of so many layers holds."""
    table = -(-model.padded_vocab_size // tensor) * model.hidden
    narrow = layers * layer_parameters(model, tensor)
    wide = 0.0
    if begins:
        wide += table + (model.sequence_length * model.hidden if model.positions == "learned" else 0)
    if ends:
        narrow += norm_parameters(model) if model.layer_norm == "pre" else 0
        wide += table if not (begins and model.tie_embeddings) else 0
    return Held(narrow, wide)


class StateBytes(NamedTuple):
    """From step to step; `gradients` as they are when the backward passes run."""

    weights: float
    gradients: float
    optimizer: float


def state_bytes(held: Held, narrow: int, shard: int) -> StateBytes:
    """Without ZeRO: masters in fp32 beside narrow weights, one fp32 gradient, Adam's two moments.

    ZeRO holds a shard of the fp32 weights and of the moments; its gradients and whole weights come and go.
    """
    if shard == 1:
        masters = WIDE * held.layers if narrow != WIDE else 0.0
        weights = narrow * held.layers + WIDE * held.embeddings + masters
        return StateBytes(weights, WIDE * held.total, 2 * WIDE * held.total)
    return StateBytes(WIDE * held.total / shard, 0.0, 2 * WIDE * held.total / shard)
