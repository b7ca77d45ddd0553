"""The data axis and the optimizer: what a step pays for gradients, for sharded weights, and for the update.

ZeRO (1910.02054): stages 0 and 1 send as many bytes, stage 1 as a reduce-scatter of the gradients and an all-gather of
the weights; stage 3 gathers each layer's weights before its forward and again before its backward, and scatters its
gradients, for every micro-batch. The bytes of a gradient are the stack's (`stacks`).
"""

from functools import lru_cache
from typing import NamedTuple

from megalith.arithmetic import parameters, routed_parameters
from megalith.job import Job
from megalith.planning.performance.collectives import Group, all_reduce_seconds, group, half_seconds, steps_seconds
from megalith.planning.performance.constants import Constants
from megalith.planning.performance.layer_time import EXPOSED_REDUCTION, seen_seconds
from megalith.planning.performance.stacks import Stack
from megalith.planning.performance.stage_time import Deal, StageSeconds, rank_layers
from megalith.recipe import ModelConfig
from megalith.topology import Accelerator

WEIGHT_BYTES = 2
UPDATE_BYTES = 30  # Adam reads and writes two moments and the master, reads the gradient, writes the weight
TENSORS = 8  # of a layer: collectives, where each parameter has its own


class After(NamedTuple):
    """Seconds after the last backward."""

    data: float
    ends: float
    """The sum of the tied embedding's gradients between the first and the last stage."""
    optimizer: float


class Weights(NamedTuple):
    """Parameters on one tensor rank's share before the split: of a layer, of the embedding, of the logits."""

    layer: float
    embedding: float
    logits: float


@lru_cache(maxsize=512)
def weights_of(model: ModelConfig) -> Weights:
    """Parameters by place; the logits' table counts on the last stage even where it is the embedding."""
    counts = parameters(model)
    return Weights(
        counts.layers / model.layers,
        float(counts.token_embedding + counts.position_embedding),
        float(model.padded_vocab_size * model.hidden),
    )


def with_gathers(layer: StageSeconds, job: Job, constants: Constants, stack: Stack) -> StageSeconds:
    """A layer whose weights are gathered for its forward and its backward, and whose gradients are scattered."""
    over = _shard_group(job, stack)
    count = (weights_of(job.model).layer - _away(job)) / job.layout.tensor
    calls = TENSORS if stack.collectives_per_tensor else 1
    latency = (calls - 1) * steps_seconds(over)
    gather = half_seconds(WEIGHT_BYTES * count, over, constants) + latency
    scatter = half_seconds(gradient_bytes(job, stack) * count, over, constants) + latency
    backward = layer.input_gradient + layer.weight_gradient
    forward_seen = seen_seconds(gather, layer.forward)
    backward_seen = seen_seconds(gather + scatter, backward)
    return layer._replace(
        forward=layer.forward + forward_seen,
        input_gradient=layer.input_gradient + backward_seen,
        gathers=forward_seen + backward_seen,
    )


def after_backward(
    job: Job,
    constants: Constants,
    stack: Stack,
    device: Accelerator,
    dealt: Deal,
    micro_batch_seconds: float,
) -> After:
    """Seconds after the last backward on the rank with the most parameters."""
    layout = job.layout
    weights = weights_of(job.model)
    layers = rank_layers(dealt, layout.pipeline).most
    held = layers * (weights.layer - _away(job)) + weights.embedding
    if layout.pipeline == 1 and not job.model.tie_embeddings:
        held += weights.logits
    held /= layout.tensor
    update = UPDATE_BYTES * held / (device.hbm_bytes_per_second * constants.memory)
    if job.offload_optimizer:
        update = offloaded_update_seconds(held, job)
    optimizer = update / job.shard_ranks
    ends = 0.0
    gradient = gradient_bytes(job, stack)
    if layout.pipeline > 1 and job.model.tie_embeddings:
        far = group(job.cluster, 2, (layout.pipeline - 1) * layout.gradient_ranks * layout.tensor)
        ends = all_reduce_seconds(gradient * weights.embedding / layout.tensor, far, constants)
    if layout.gradient_ranks == 1:
        return After(0.0, ends, optimizer)
    shard, replicas = _shard_group(job, stack), _replicas(job, stack)
    if stack.large_messages == "never" or (stack.large_messages == "sharded" and job.zero == 0):
        shard, replicas = _slowed(shard, constants), _slowed(replicas, constants)
    between = all_reduce_seconds(gradient * held / shard.size, replicas, constants)
    if job.zero == 3:
        table = weights.embedding + (0.0 if job.model.tie_embeddings else weights.logits)
        gathered = (2 * WEIGHT_BYTES + gradient) * table / layout.tensor
        return After(half_seconds(gathered, _shard_group(job, stack), constants) + between, ends, optimizer)
    rounds = job.micro_batches if job.zero == 2 and layout.pipeline == 1 else 1
    gathered = half_seconds(WEIGHT_BYTES * held, shard, constants) if job.zero else 0.0
    each = half_seconds(gradient * held, shard, constants) if job.zero else between
    once = between if job.zero else 0.0
    if stack.collectives_per_tensor and job.zero:
        once += 2 * TENSORS * layers * steps_seconds(shard)
    alone = _seen_share(job, stack)
    if alone == 1:
        return After(rounds * each + once + gathered, ends, optimizer)
    backward, forward = micro_batch_seconds * 2 / 3, micro_batch_seconds / 3
    window = _micro_batches_beside(job)
    if not stack.overlaps_weights:  # what is sent once a step goes with the last backward
        once, gathered = once + gathered, 0.0
    total = (rounds - 1) * seen_seconds(each, backward, EXPOSED_REDUCTION)
    hidden = 1 - alone
    total += alone * (each + once + gathered)
    total += seen_seconds(hidden * (each + once), window * backward, EXPOSED_REDUCTION)
    total += seen_seconds(hidden * gathered, window * forward, EXPOSED_REDUCTION)
    return After(total, ends, optimizer)


def _micro_batches_beside(job: Job) -> float:
    """Micro-batches of one rank beside which its once-a-step messages go.

    A stage's gradients are whole after its last backward, and its weights wanted at its first forward. A rank with one
    stage has that micro-batch's time; an interleaved schedule takes its last micro-batches, as many as there are ranks,
    through one virtual stage after the other, so that all but one of them have gone by (2104.04473 §2.2.2).
    """
    pipeline, virtual = job.layout.pipeline, job.virtual_stages
    if pipeline == 1 or virtual == 1:
        return 1.0
    return max(1.0, min(job.micro_batches, pipeline) * (virtual - 1) / virtual)


HOST_LINK_BYTES_PER_SECOND = 25e9
"""Assumed, of an accelerator to its host: PCIe 4.0 x16 as copies reach it."""
HOST_MEMORY_BYTES_PER_SECOND = 300e9
"""Assumed, of a node's processors together, as an update of Adam on them reaches it: two sockets of eight channels."""


def offloaded_update_seconds(parameters: float, job: Job) -> float:
    """Gradients in fp32 down, the update in the host's memory, weights up again, one after the other.

    ZeRO-Offload (2101.06840) hides a part of it behind the next step's forward pass, at the price of stale weights;
    nothing of that is counted.
    """
    sent = parameters * (4 + job.compute_bytes) / HOST_LINK_BYTES_PER_SECOND
    return sent + UPDATE_BYTES * parameters * job.cluster.accelerators_per_node / HOST_MEMORY_BYTES_PER_SECOND


def _away(job: Job) -> float:
    """Parameters of the mean layer's experts that other ranks of the expert group hold."""
    model = job.model
    if job.expert == 1 or not model.experts:
        return 0.0
    return routed_parameters(model) * (1 - 1 / job.expert) * model.expert_layers / model.layers


def _seen_share(job: Job, stack: Stack) -> float:
    """The share of what is sent once a step that no computing is beside: 1, all of it.

    Stage by stage, the gradients of a rank's first stage are whole when nothing is left to do, and its weights wanted
    when nothing else has begun. Without ZeRO the last backward has its own buckets beside it, unless it leaves the
    weights' gradients for later.
    """
    if job.layout.pipeline == 1:
        return float(stack.overlaps_data == "never")
    if stack.overlaps_data == "stage by stage":
        return 1 / job.virtual_stages if job.zero else float(job.schedule.startswith("zb"))
    return float(stack.overlaps_data != "always")


def gradient_bytes(job: Job, stack: Stack) -> int:
    """Bytes of one gradient as the data axis sends it."""
    return stack.gradient_bytes_fp16 if job.precision == "fp16" else stack.gradient_bytes


def _shard_group(job: Job, stack: Stack) -> Group:
    """The ranks over which ZeRO shards: neighbours in the gradient group; alone without ZeRO."""
    return _lent(group(job.cluster, job.shard_ranks, job.layout.tensor), job, stack)


def _replicas(job: Job, stack: Stack) -> Group:
    """The ranks that hold the same, one of each shard."""
    shard = job.shard_ranks
    return _lent(group(job.cluster, job.layout.gradient_ranks // shard, job.layout.tensor * shard), job, stack)


def _lent(over: Group, job: Job, stack: Stack) -> Group:
    """The group with what its software's collectives have of the adapters."""
    if over.far and not stack.lends_links:
        far = job.cluster.tiers[-1].bytes_per_second or over.bytes_per_second
        return over._replace(bytes_per_second=min(far, over.bytes_per_second))
    return over


def _slowed(over: Group, constants: Constants) -> Group:
    """The group as the reduction of all gradients at once has it."""
    if over.far:
        return over._replace(bytes_per_second=over.bytes_per_second * constants.gradient_network)
    return over
