"""One layer, the embedding and the logits on one micro-batch: forward, both gradients, recomputation, communication.

What is to be done (`layer_work`) does not depend on the constants; how long it takes (`layer_seconds`,
`embedding_and_loss_seconds`) does. Tensor parallelism and its two all-reduces each way: Megatron-LM §3; sequence
parallelism and selective recomputation: 2205.05198 §4–5; fused attention: 2205.14135.
"""

import functools
from typing import NamedTuple

from megalith.arithmetic import attended_tokens
from megalith.planning.performance.collectives import Group, all_reduce_seconds, half_seconds, rate
from megalith.planning.performance.constants import Constants
from megalith.planning.performance.matmul_time import ELEMENT_BYTES, Product, product, products_seconds
from megalith.recipe import ModelConfig
from megalith.topology import Accelerator, key_heads_computed

UNFUSED = 0.42  # of what large products reach: attention's are many small ones, and their scores go through memory
EXPOSED = 0.45  # of communication that could run beside computation, the share that is seen all the same
EXPOSED_REDUCTION = 0.15  # the same, of the reduction of all gradients, whose buckets have a whole backward to hide in
MISALIGNED = 10.0  # attention's products with a head size that is no multiple of 8 miss the tensor cores
BACKWARD_BYTES = 2.0  # what the backward of norms, activations and softmax moves, beside the forward
FUSED_BACKWARD = 3.3  # five products for two (2205.14135 §B.4), at three quarters of the rate (2307.08691 §1)
LOGIT_BYTES = 24  # a logit: written, turned to fp32, read twice for the loss, and its gradient


class LayerWork(NamedTuple):
    """A layer's forward and backward on one micro-batch, on one rank, apart from the constants."""

    forward: tuple[Product, ...]
    input_gradient: tuple[Product, ...]
    weight_gradient: tuple[Product, ...]
    attention_flops: float
    """Forward, of scores and weighted sum together, as they are run: fused kernels skip what the causal mask hides."""
    score_bytes: float
    """Forward, of the scores in memory; 0 for fused attention."""
    element_bytes: float
    """Forward, of norms, activations, biases and residuals."""
    residual_bytes: float
    """The residual stream of the micro-batch, as one all-reduce of the tensor axis takes it."""
    norm_bytes: float
    """Shared by a norm of all heads at once, as an all-reduce of the tensor axis takes it; 0 without one."""
    context_bytes: float
    """Keys and values, as the context axis passes them round."""


@functools.lru_cache(maxsize=8192)
def layer_work(
    model: ModelConfig,
    sequences: int,
    tensor: int,
    context: int,
    sequence_parallel: bool,
    fused: bool,
    device: Accelerator,
) -> LayerWork:
    """The work on `sequences` whole sequences, of which each of `context` ranks has its part of the tokens."""
    hidden, length, gated = model.hidden, model.sequence_length, model.activation == "swiglu"
    tokens = max(1, sequences * length // context)
    head_dim = model.head_dim
    heads = max(1, model.heads // tensor)
    keys = key_heads_computed(model, tensor)
    qkv, attended, inner = (heads + 2 * keys) * head_dim, heads * head_dim, max(1, model.ffn_hidden // tensor)
    into = 2 * inner if gated else inner
    matrices = ((qkv, hidden), (hidden, attended), (into, hidden), (hidden, inner))  # (columns, depth)
    seen = attended_tokens(model)
    flops = (6.0 if model.positions == "relative" else 4.0) * tokens * seen * attended
    skips = fused and seen == length  # the mask of a window is given to the kernel, which skips nothing then
    if head_dim % 8:
        flops *= MISALIGNED
    split = 24 / (tensor if sequence_parallel else 1) + (12 + (6 if gated else 4) * model.ffn_hidden / hidden) / tensor
    normed = 2 * ELEMENT_BYTES * (attended + keys * head_dim) if model.query_key_norm != "none" else 0
    return LayerWork(
        forward=tuple(product(tokens, n, k, device) for n, k in matrices),
        input_gradient=tuple(product(tokens, k, n, device) for n, k in matrices),
        weight_gradient=tuple(product(k, n, tokens, device) for n, k in matrices),
        attention_flops=flops / 2 if skips else flops,
        score_bytes=0.0 if fused else 10.0 * heads * tokens * seen,
        element_bytes=split * tokens * hidden + float(normed * tokens),
        residual_bytes=float(ELEMENT_BYTES * tokens * hidden),
        norm_bytes=float(4 * tokens) if model.query_key_norm == "whole" else 0.0,
        context_bytes=float(2 * ELEMENT_BYTES * tokens * keys * head_dim),
    )


class LayerSeconds(NamedTuple):
    """Seconds of a layer on one micro-batch, by part; recomputation once, as if the layer were recomputed."""

    forward: float
    input_gradient: float
    weight_gradient: float
    tensor_forward: float
    tensor_backward: float
    recompute: float
    tensor_recompute: float
    context_forward: float
    context_backward: float


@functools.lru_cache(maxsize=8192)
def layer_seconds(
    work: LayerWork,
    recompute: str,
    sequence_parallel: bool,
    fused: bool,
    tensor: Group,
    context: Group,
    peak: float,
    device: Accelerator,
    constants: Constants,
    stops_early: bool = False,
    remakes: bool = False,
) -> LayerSeconds:
    """How long `work` takes; `recompute` is none, selective or full.

    With `stops_early` a recomputed layer ends before its last product, and so before the sum of that product over the
    tensor axis: the all-reduce, or under sequence parallelism the reduce-scatter. With `remakes` selective
    recomputation is at most what the layer computes element by element, and an attention that is not fused.
    """
    bandwidth = device.hbm_bytes_per_second * constants.memory
    dense = products_seconds(work.forward, peak, bandwidth, constants)
    to_inputs = products_seconds(work.input_gradient, peak, bandwidth, constants)
    to_weights = products_seconds(work.weight_gradient, peak, bandwidth, constants)
    core = work.attention_flops / (peak * (constants.fused_attention if fused else UNFUSED * constants.gemm))
    core += work.score_bytes / bandwidth
    core_back = core * (FUSED_BACKWARD if fused else BACKWARD_BYTES)
    elements = work.element_bytes / bandwidth
    multiple, launch = constants.stack, constants.launch_seconds
    forward = multiple * (dense + core + elements + launch)
    backward = multiple * (to_inputs + core_back + BACKWARD_BYTES * elements + launch)
    reduction = residual_seconds(work.residual_bytes, tensor, sequence_parallel, constants)
    norms = 2 * all_reduce_seconds(work.norm_bytes, tensor, constants) if work.norm_bytes else 0.0
    ring = context_seconds(work, context, constants)
    seen = max(0.0, ring - core * multiple)
    selective = elements + (0.0 if fused else core) if remakes else core
    repeat = {"none": 0.0, "selective": multiple * selective, "full": forward}[recompute]
    repeated_sums = 2 * reduction + norms if recompute == "full" else 0.0
    if stops_early and recompute == "full":
        repeat -= multiple * products_seconds(work.forward[-1:], peak, bandwidth, constants)
        repeated_sums -= half_seconds(work.residual_bytes, tensor, constants) if sequence_parallel else reduction
    return LayerSeconds(
        forward=forward,
        input_gradient=backward,
        weight_gradient=multiple * (to_weights + launch),
        tensor_forward=2 * reduction + norms,
        tensor_backward=2 * reduction * EXPOSED + norms,
        recompute=repeat,
        tensor_recompute=repeated_sums,
        context_forward=seen,
        context_backward=max(0.0, 2 * ring - core_back * multiple),
    )


def residual_seconds(residual_bytes: float, tensor: Group, sequence_parallel: bool, constants: Constants) -> float:
    """One all-reduce of the residual stream, or the reduce-scatter and all-gather that stand for it."""
    if sequence_parallel:
        return 2 * half_seconds(residual_bytes, tensor, constants)
    return all_reduce_seconds(residual_bytes, tensor, constants)


def context_seconds(work: LayerWork, context: Group, constants: Constants) -> float:
    """Keys and values once round the ring of the context axis."""
    if context.size == 1:
        return 0.0
    return (context.size - 1) * (work.context_bytes / rate(context, constants) + context.far_latency)


class EmbeddingAndLossSeconds(NamedTuple):
    """Seconds of the embedding and of the logits with their loss, on one micro-batch."""

    embedding: float
    embedding_gradient: float
    head: float
    head_input_gradient: float
    head_weight_gradient: float
    tensor: float
    """Communication of the embedding and of the loss, forward; the backward's is as much."""


@functools.lru_cache(maxsize=8192)
def embedding_and_loss_seconds(
    model: ModelConfig, tokens: int, tensor: Group, peak: float, device: Accelerator, constants: Constants
) -> EmbeddingAndLossSeconds:
    """Seconds for `tokens` tokens on one rank, with the vocabulary split over the tensor axis."""
    columns = -(-model.padded_vocab_size // tensor.size)
    bandwidth = device.hbm_bytes_per_second * constants.memory
    multiple, launch = constants.stack, constants.launch_seconds
    stream = ELEMENT_BYTES * tokens * model.hidden
    logits = LOGIT_BYTES * float(tokens) * columns / bandwidth / 2
    one = products_seconds((product(tokens, columns, model.hidden, device),), peak, bandwidth, constants)
    back = products_seconds((product(tokens, model.hidden, columns, device),), peak, bandwidth, constants)
    weights = products_seconds((product(model.hidden, columns, tokens, device),), peak, bandwidth, constants)
    reduction = all_reduce_seconds(stream, tensor, constants) + 3 * all_reduce_seconds(4.0 * tokens, tensor, constants)
    return EmbeddingAndLossSeconds(
        embedding=multiple * (4 * stream / bandwidth + launch),
        embedding_gradient=multiple * (4 * stream / bandwidth + launch),
        head=multiple * (one + logits + launch),
        head_input_gradient=multiple * (back + logits),
        head_weight_gradient=multiple * weights,
        tensor=reduction,
    )
