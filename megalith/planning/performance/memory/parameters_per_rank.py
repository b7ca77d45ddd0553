"""Parameters that a pipeline rank holds, and the bytes that our own training holds for them from step to step."""

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from megalith.arithmetic import parameters
from megalith.planning.performance.memory.tensor_bytes import layer_parameters
from megalith.precision import FP32_BYTES
from megalith.recipe import ModelConfig
from megalith.schedules import layers_of_stages


class RankParameters(NamedTuple):
    """Parameters of one stage on one tensor-parallel rank."""

    layers: float
    """And of the last norm and a bert's heads: what computes in the layers' type."""
    embeddings: float
    """And of an output projection and learned positions: in fp32 without ZeRO."""

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


@lru_cache(maxsize=16384)
def held(
    model: ModelConfig, tensor: int, layers: int, *, is_first_stage: bool, is_last_stage: bool, expert: int = 1
) -> RankParameters:
    """Parameters of a stage of so many layers; a last stage that is not the first has a copy of tied embeddings."""
    count = parameters(model)
    table = -(-model.padded_vocab_size // tensor) * model.hidden
    narrow, wide = layers * layer_parameters(model, tensor, expert), 0.0
    if is_last_stage if model.ends_in_norm else is_first_stage:
        narrow += count.final_norm
    if is_first_stage:
        wide += table + count.position_embedding
    if is_last_stage:
        split = model.padded_vocab_size if model.family == "bert" and model.bias else 0  # the logits' bias
        narrow += count.heads - split + split / tensor
        wide += 0 if is_first_stage and model.tie_embeddings else table
    return RankParameters(narrow, wide)


class StateBytes(NamedTuple):
    """From step to step; `gradients` as they are when the backward passes run."""

    weights: float
    gradients: float
    optimizer: float


INT8_MOMENTS = 2 * (1 + 4 / 2048)
"""Bytes of both moments in 8 bits, with a scale in fp32 for each block of 2,048 (2110.02861)."""


def with_lean_optimizer(
    state: StateBytes, held: RankParameters, shard: int, compute_bytes: int, *, int8: bool, offload: bool
) -> StateBytes:
    """The state with moments in 8 bits (embeddings keep fp32), or with masters and moments on the node's processors.

    What the update leaves on the accelerator are weights in the layers' type, fp32 for embeddings.
    """
    if offload:
        left = (compute_bytes * held.layers + FP32_BYTES * held.embeddings) / shard
        return state._replace(weights=min(state.weights, left), optimizer=0.0)
    if int8:
        return state._replace(optimizer=(INT8_MOMENTS * held.layers + 2 * FP32_BYTES * held.embeddings) / shard)
    return state


def state_bytes(held: RankParameters, compute_bytes: int, shard: int) -> StateBytes:
    """Without ZeRO: masters in fp32 beside narrow weights, one fp32 gradient, Adam's two moments.

    ZeRO holds a shard of the fp32 weights and of the moments; its gradients and whole weights come and go.
    """
    if shard == 1:
        masters = FP32_BYTES * held.layers if compute_bytes != FP32_BYTES else 0.0
        weights = compute_bytes * held.layers + FP32_BYTES * held.embeddings + masters
        return StateBytes(weights, FP32_BYTES * held.total, 2 * FP32_BYTES * held.total)
    return StateBytes(FP32_BYTES * held.total / shard, 0.0, 2 * FP32_BYTES * held.total / shard)
