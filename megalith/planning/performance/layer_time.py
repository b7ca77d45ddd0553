"""One layer, the embedding and the logits on one micro-batch: forward, both gradients, recomputation, communication.

What is to be done (`layer_work`) does not depend on the constants; how long it takes (`layer_seconds`,
`embedding_and_loss_seconds`) does. Tensor parallelism and its two all-reduces each way: Megatron-LM §3; sequence
parallelism and selective recomputation: 2205.05198 §4–5; fused attention: 2205.14135.
"""

import functools
from typing import NamedTuple

from megalith.arithmetic import attended_tokens
from megalith.planning.performance.attention_time import (
    FUSED_BACKWARD,
    UNFUSED,
    Kernel,
    attention_flops,
    fused_share,
)
from megalith.planning.performance.collectives import Group, all_reduce_seconds, half_seconds, rate
from megalith.planning.performance.constants import Constants
from megalith.planning.performance.experts import DISPATCHES, mlp_products, width_met
from megalith.planning.performance.matmul_time import (
    ELEMENT_BYTES,
    Engine,
    Product,
    engine,
    product,
    products_seconds,
    sustained,
)
from megalith.precision import Fp8
from megalith.recipe import ModelConfig
from megalith.topology import Accelerator, key_heads_computed

EXPOSED = 0.45  # of communication that could run beside computation, the share that is seen all the same
EXPOSED_REDUCTION = 0.15  # the same, of the reduction of all gradients, whose buckets have a whole backward to hide in
BACKWARD_BYTES = 2.0  # what the backward of norms, activations and softmax moves, beside the forward
LOGIT_BYTES = 24  # a logit: written, turned to fp32, read twice for the loss, and its gradient
CAST_BYTES = 4  # a number turned to fp8: read in bf16, written by rows and by columns for the two products it is in
GRAPHED = 0.1  # of the launches' time, what a graph of them takes


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
    """Keys and values, as a ring on the context axis passes them round."""
    cast_bytes: float
    """Forward, of the products' inputs turned to fp8, if they are; as many of their outputs' gradients backward."""
    cast_gradient_bytes: float
    """Backward, of the gradients of the products' outputs."""


@functools.lru_cache(maxsize=8192)
def layer_work(
    model: ModelConfig,
    sequences: int,
    tensor: int,
    context: int,
    sequence_parallel: bool,
    fused: bool,
    device: Accelerator,
    expert: int = 1,
) -> LayerWork:
    """The work on `sequences` whole sequences, of which each of `context` ranks has its part of the tokens.

    In a mixture each rank has the experts of one of `expert` ranks, and as many tokens as it sends away.
    """
    hidden, length, gated = model.hidden, model.sequence_length, model.activation == "swiglu"
    tokens = max(1, sequences * length // context)
    head_dim = model.head_dim
    heads = max(1, model.heads // tensor)
    keys = key_heads_computed(model, tensor)
    qkv, attended, inner = (heads + 2 * keys) * head_dim, heads * head_dim, max(1, model.ffn_hidden // tensor)
    into = 2 * inner if gated else inner
    matrices = [(tokens, qkv, hidden, 1.0), (tokens, hidden, attended, 1.0)]  # (rows, columns, depth, how many)
    if model.experts:
        matrices += mlp_products(model, tokens, tensor, expert)
    else:
        matrices += [(tokens, into, hidden, 1.0), (tokens, hidden, inner, 1.0)]
    seen = attended_tokens(model)
    split = 24 / (tensor if sequence_parallel else 1) + (12 + (6 if gated else 4) * width_met(model) / hidden) / tensor
    split += (
        4.0 * DISPATCHES * model.experts_per_token * model.expert_layers / model.layers / tensor
        if model.experts
        else 0.0
    )
    normed = 2 * ELEMENT_BYTES * (attended + keys * head_dim) if model.query_key_norm != "none" else 0
    return LayerWork(
        forward=tuple(_times(product(m, n, k, device), count) for m, n, k, count in matrices),
        input_gradient=tuple(_times(product(m, k, n, device), count) for m, n, k, count in matrices),
        weight_gradient=tuple(_times(product(k, n, m, device), count) for m, n, k, count in matrices),
        attention_flops=attention_flops(model, tokens, seen, attended, fused=fused),
        score_bytes=0.0 if fused else 10.0 * heads * tokens * seen,
        element_bytes=split * tokens * hidden + float(normed * tokens),
        residual_bytes=float(ELEMENT_BYTES * tokens * hidden),
        norm_bytes=float(4 * tokens) if model.query_key_norm == "whole" else 0.0,
        context_bytes=float(2 * ELEMENT_BYTES * tokens * keys * head_dim),
        cast_bytes=CAST_BYTES * sum(count * rows * depth for rows, _, depth, count in matrices),
        cast_gradient_bytes=CAST_BYTES * sum(count * rows * columns for rows, columns, _, count in matrices),
    )


def _times(one: Product, count: float) -> Product:
    """So many of a product; of less than one, its share."""
    return one if count == 1.0 else one._replace(flops=count * one.flops, wire_bytes=count * one.wire_bytes)


class Means(NamedTuple):
    """The means that compute a layer: the accelerator, its number formats and its software."""

    device: Accelerator
    precision: str
    fp8: Fp8 | None
    kernel: Kernel
    """The kernel of fused attention."""
    tensor_overlap: bool
    cuda_graphs: bool
    stops_early: bool
    """Whether a recomputed layer ends before its last product, and so before the sum of that product over the tensor
    axis: the all-reduce, or under sequence parallelism the reduce-scatter."""
    remakes: bool = False
    """Whether selective recomputation is at most what the layer computes element by element, and an attention that is
    not fused."""
    gathers_again: bool = False
    """Whether the products' inputs are gathered once more in the backward pass, for the weights' gradients."""


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
    means: Means,
    constants: Constants,
) -> LayerSeconds:
    """How long `work` takes; `recompute` is none, selective or full."""
    device = means.device
    bandwidth = device.hbm_bytes_per_second * constants.memory
    reached = engine(device, means.precision, means.fp8, constants)
    dense = products_seconds(work.forward, reached)
    to_inputs = products_seconds(work.input_gradient, reached)
    to_weights = products_seconds(work.weight_gradient, reached)
    core = _core_seconds(work, means, fused, constants) + work.score_bytes / bandwidth
    core_back = core * (FUSED_BACKWARD if fused else BACKWARD_BYTES)
    elements, elements_back = work.element_bytes, BACKWARD_BYTES * work.element_bytes
    if means.fp8 is not None:
        elements, elements_back = elements + work.cast_bytes, elements_back + work.cast_gradient_bytes
    multiple = constants.stack
    launch = constants.launch_seconds * (GRAPHED if means.cuda_graphs else 1.0)
    forward = multiple * (dense + core + elements / bandwidth + launch)
    backward = multiple * (to_inputs + core_back + elements_back / bandwidth + launch)
    reduction = residual_seconds(work.residual_bytes, tensor, sequence_parallel, constants)
    norms = 2 * all_reduce_seconds(work.norm_bytes, tensor, constants) if work.norm_bytes else 0.0
    ring = context_seconds(work, context, constants)
    seen = max(0.0, ring - core * multiple)
    selective = elements / bandwidth + (0.0 if fused else core) if means.remakes else core
    repeat = {"none": 0.0, "selective": multiple * selective, "full": forward}[recompute]
    sums, sums_back = 2 * reduction, 2 * reduction * EXPOSED
    if means.tensor_overlap:
        sums, sums_back = seen_seconds(sums, multiple * dense), sums_back * EXPOSED
    if means.gathers_again:  # beside the products that find the inputs' gradients, and as a rule hidden by them
        sums_back += max(0.0, reduction - multiple * to_inputs)
    repeated_sums = sums + norms if recompute == "full" else 0.0
    if means.stops_early and recompute == "full":
        repeat -= multiple * products_seconds(work.forward[-1:], reached)
        repeated_sums -= sums / 4 if sequence_parallel else sums / 2
    return LayerSeconds(
        forward=forward,
        input_gradient=backward,
        weight_gradient=multiple * (to_weights + launch),
        tensor_forward=sums + norms,
        tensor_backward=sums_back + norms,
        recompute=repeat,
        tensor_recompute=repeated_sums,
        context_forward=seen,
        context_backward=max(0.0, 2 * ring - core_back * multiple),
    )


def _core_seconds(work: LayerWork, means: Means, fused: bool, constants: Constants) -> float:
    """The products of attention, forward."""
    peak = means.device.peak(means.precision) * sustained(means.device)
    if not fused:
        return work.attention_flops / (peak * UNFUSED * constants.gemm)
    return work.attention_flops / (
        peak * constants.fused_attention * fused_share(means.kernel, means.device.generation)
    )


def seen_seconds(sending: float, computing: float, exposed: float = EXPOSED) -> float:
    """Seconds that communication beside computation adds to it."""
    return max(0.0, sending - computing) + exposed * min(sending, computing)


def residual_seconds(residual_bytes: float, tensor: Group, sequence_parallel: bool, constants: Constants) -> float:
    """One all-reduce of the residual stream, or the reduce-scatter and all-gather that stand for it."""
    if sequence_parallel:
        return 2 * half_seconds(residual_bytes, tensor, constants)
    return all_reduce_seconds(residual_bytes, tensor, constants)


def context_seconds(work: LayerWork, context: Group, constants: Constants) -> float:
    """Keys and values once round the ring of the context axis; 0 where heads are exchanged instead."""
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
    model: ModelConfig, tokens: int, tensor: Group, precision: str, device: Accelerator, constants: Constants
) -> EmbeddingAndLossSeconds:
    """Seconds for `tokens` tokens on one rank, with the vocabulary split over the tensor axis; never in fp8."""
    columns = -(-model.padded_vocab_size // tensor.size)
    bandwidth = device.hbm_bytes_per_second * constants.memory
    reached: Engine = engine(device, precision, None, constants)
    multiple, launch = constants.stack, constants.launch_seconds
    stream = ELEMENT_BYTES * tokens * model.hidden
    logits = LOGIT_BYTES * float(tokens) * columns / bandwidth / 2
    one = products_seconds((product(tokens, columns, model.hidden, device),), reached)
    back = products_seconds((product(tokens, model.hidden, columns, device),), reached)
    weights = products_seconds((product(model.hidden, columns, tokens, device),), reached)
    reduction = all_reduce_seconds(stream, tensor, constants) + 3 * all_reduce_seconds(4.0 * tokens, tensor, constants)
    return EmbeddingAndLossSeconds(
        embedding=multiple * (4 * stream / bandwidth + launch),
        embedding_gradient=multiple * (4 * stream / bandwidth + launch),
        head=multiple * (one + logits + launch),
        head_input_gradient=multiple * (back + logits),
        head_weight_gradient=multiple * weights,
        tensor=reduction,
    )
