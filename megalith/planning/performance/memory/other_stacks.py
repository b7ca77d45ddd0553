"""The peak of a rank under other people's training software, by the formulas of the papers.

Activations of a layer: 2205.05198 §4, term by term, with GELU and dropout or gated without; fused attention
(2205.14135) keeps one number a row in place of the scores. Bytes of a parameter: what each stack's optimizer holds,
from its source. It is coarser than what is known of our own training, and two constants for each stack and meter, for
fragments and for what lies outside torch's allocator, are fitted (`calibrate`).
"""

from functools import lru_cache
from typing import NamedTuple

from megalith.job import Job
from megalith.planning.performance.memory.parameters_per_rank import held, layer_counts
from megalith.planning.performance.memory.tensor_bytes import layer_parameters
from megalith.precision import compute_bytes
from megalith.recipe import ModelConfig
from megalith.schedules import deal_evenly
from megalith.schedules.closed_forms import most_in_flight

DEEPSPEED = ("megatron-deepspeed", "deepspeed")
BUCKET = 5e8  # numbers that DeepSpeed sends at once (its reduce_bucket_size)
LIVE = 1e9  # parameters that DeepSpeed's ZeRO-3 has gathered at once (its stage3_max_live_parameters)
LOGIT_BYTES = 2 + 4 + 4  # of one logit at once: the product, its softmax in fp32, their gradient
WIDENED_LOGIT_BYTES = 2 + 4 + 4 + 4  # where the product is first turned to fp32 whole (torchtitan's cross_entropy_loss)
FP8_COPIES = 2  # of a weight in fp8 beside that in bf16, by rows and by columns (Transformer Engine, on Hopper)
FUSED_LOGIT_BYTES = 2 + 2  # where one kernel makes the loss and its gradient


class Holdings(NamedTuple):
    """Bytes that a stack holds for each parameter."""

    weights: float
    gradients: float
    optimizer: float
    """fp32 weights and Adam's moments; ZeRO shards them."""
    step: float = 0.0
    """More while the optimizer takes its step, in memory that the passes cannot use again; ZeRO shards it."""
    gradients_sent: float = 0.0
    """Bytes of one number in a bucket on its way to the other replicas."""
    shards_all: bool = False
    """Whether weights and gradients are fp32 shards too, as ZeRO-3's."""


@lru_cache(maxsize=256)
def holdings(stack: str, precision: str, zero: int) -> Holdings:
    """Bytes that a stack holds for each parameter.

    Megatron-LM: 18 bytes (2205.05198 Figure 1 counts so): two of weights, four of gradients, twelve of the optimizer.
    DeepSpeed in fp16: gradients in fp16, which its step widens and lays end to end (4 + 4 bytes), with ZeRO those of
    the shard alone and in the other order (2 + 4). DeepSpeed in bf16: bf16 gradients beside whole ones in fp32. FSDP
    and torchtitan: shards in fp32.
    """
    wide = float(compute_bytes(precision))
    if zero >= 3 or stack.startswith(("fsdp", "torchtitan")):
        return Holdings(4.0, 4.0, 8.0, shards_all=True)
    if stack == "megatron-bridge":
        return Holdings(wide, 2.0, 12.0)  # its recipes reduce gradients in bf16 (grad_reduce_in_fp32: false)
    if stack in DEEPSPEED:
        if precision == "bf16":
            return Holdings(wide, 6.0, 12.0, gradients_sent=4.0)
        return Holdings(wide, 2.0, 12.0, step=8.0 if zero == 0 else 6.0, gradients_sent=2.0)
    return Holdings(wide, 4.0, 8.0 if precision == "fp32" else 12.0)


@lru_cache(maxsize=16384)
def stage_layers(model: ModelConfig, pipeline: int, stack: str) -> tuple[int, ...]:
    """Layers of each pipeline rank.

    torchtitan weighs the logits as layers, as we do. nanotron gives each rank blocks until its share of all their
    costs is passed, the logits' among them. Megatron-LM's family deals layers evenly, or counts embedding and logits
    as a layer each where that divides them and else nothing does.
    """
    if stack == "nanotron":
        return _until_passed(model, pipeline)
    if stack.startswith("torchtitan"):
        return layer_counts(model, pipeline)
    return tuple(deal_evenly(model.layers, pipeline))


def _until_passed(model: ModelConfig, pipeline: int) -> tuple[int, ...]:
    layer = 4 * model.hidden**2 + (3 if model.activation == "swiglu" else 2) * model.ffn_hidden * model.hidden
    total = model.layers * layer + model.padded_vocab_size * model.hidden
    counts = [0] * pipeline
    rank = 0
    for number in range(1, model.layers + 1):
        counts[rank] += 1
        if number * layer > total * (rank + 1) / pipeline and rank < pipeline - 1:
            rank += 1
    return tuple(counts)


class LayerBytes(NamedTuple):
    """Bytes of one layer and micro-batch that each kind of recomputation keeps."""

    none: float
    selective: float
    full: float
    operations: float
    """torchtitan's choice by operation: the input, attention's output and every second product (its _save_list)."""


def layer_bytes(job: Job) -> LayerBytes:
    """Bytes that a layer keeps. Transformer Engine keeps fp8 inputs of products; torchtitan casts them again."""
    model, t = job.model, job.layout.tensor
    wide = compute_bytes(job.precision)
    tokens = job.micro_batch_size * model.sequence_length / job.layout.context
    hidden, ffn = model.hidden, model.ffn_hidden
    split = t if job.sequence_parallel else 1
    gated = model.activation == "swiglu"
    mask = 0 if gated or job.stack.startswith("fsdp") else 1  # MPT and Llama have no dropout, GPT has
    stream = tokens * hidden / split
    narrow = 1 if job.fp8 and not job.stack.startswith(("fsdp", "torchtitan")) else wide
    whole = 2 * (wide + narrow) * stream + 2 * mask * stream  # the norms' inputs and the products', and two masks
    heads = wide * tokens * 2 * (model.query_width + model.kv_width) / t
    fused = job.stack in ("megatron-core", "megatron-bridge", "llama3")  # SwiGLU makes its product again
    mlp = ((3 if gated and not fused else 2 if gated else 1) * wide + narrow) * tokens * ffn / t
    rows = tokens * model.heads / t
    scores = rows * 4 if job.fused_attention else rows * model.sequence_length * (2 * wide + 1)
    selective = whole + heads + mlp + (rows * 4 if job.fused_attention else 0)
    operations = wide * (2 * stream + tokens * (2 * model.query_width + model.kv_width + ffn) / t) + rows * 4
    return LayerBytes(whole + heads + mlp + scores, selective, wide * stream, operations)


def published_parts(job: Job, rank: int) -> dict[str, float]:
    """Bytes by kind on this pipeline rank, without fragments and context."""
    model, layout = job.model, job.layout
    pipeline, data = layout.pipeline, layout.data * job.layout.context
    is_first_stage, is_last_stage = rank == 0, rank == pipeline - 1
    layers = stage_layers(model, pipeline, job.stack)[rank]
    count = held(model, layout.tensor, layers, is_first_stage=is_first_stage, is_last_stage=is_last_stage).total
    own = holdings(job.stack, job.precision, job.zero)
    shard = (job.zero_shard or data) if job.zero else 1
    weights, gradients, optimizer = own.weights * count, own.gradients * count, own.optimizer * count / shard
    if job.fp8 and not own.shards_all:
        weights += FP8_COPIES * count
    if own.shards_all:
        weights, gradients = weights / shard, gradients / (shard if pipeline == 1 else 1)
        if job.zero == 2:
            weights += compute_bytes(job.precision) * count  # gathered once, until the backward is done
    elif job.zero >= 2:
        gradients /= shard
    of_layer = layer_bytes(job)
    none, share = of_layer.none, 1 / job.recompute_every
    kept_layer = {"none": none, "selective": of_layer.selective, "full": of_layer.full}[job.recompute] * share
    kept_layer += none * (1 - share)
    if job.stack.startswith("torchtitan") and job.recompute == "full" and job.recompute_every == 2:
        kept_layer = of_layer.operations
    pairs = most_in_flight(job.schedule, rank, pipeline, job.virtual_stages, job.micro_batches)
    wide = compute_bytes(job.precision)
    tokens = job.micro_batch_size * model.sequence_length / job.layout.context
    stream = wide * tokens * model.hidden / (layout.tensor if job.sequence_parallel else 1)
    activations = pairs / job.virtual_stages * layers * kept_layer + stream
    if pipeline > 1 and job.stack in DEEPSPEED:
        activations += pairs * stream  # each stage's output waits for its backward pass
    working = none - kept_layer if job.recompute != "none" else 0.0
    working = max(working, 0.0) + 2 * stream
    logit = FUSED_LOGIT_BYTES if job.stack.startswith("fsdp") else LOGIT_BYTES  # llm-foundry's default
    logits = logit * tokens * model.padded_vocab_size / layout.tensor if is_last_stage else 0.0
    if job.stack.startswith("torchtitan") and is_last_stage:
        logits *= WIDENED_LOGIT_BYTES / LOGIT_BYTES
        logits += 2 * wide * tokens * model.hidden if job.sequence_parallel else 0.0  # gathered for them, and back
    if logits > working:
        working = 0.0
    else:
        logits = 0.0
    buffers = 2 * stream if pipeline > 1 else 0.0
    if own.shards_all:
        one = layer_parameters(model, layout.tensor)
        tables = count - layers * one
        if job.stack in DEEPSPEED:
            buffers += wide * (min(LIVE, one) + BUCKET)
        elif job.zero == 2:
            buffers += 4 * one + wide * tables
        else:
            buffers += 2 * wide * one + 4 * one + wide * tables
    buffers += own.step * count / shard
    if job.stack in DEEPSPEED and data > 1:
        buffers += min(BUCKET, count) * own.gradients_sent
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "logits": logits,
        "working": working,
        "buffers": buffers,
    }
