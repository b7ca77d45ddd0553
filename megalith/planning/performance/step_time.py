"""The time of one training step: stages, the schedule they run in, the data axis, the optimizer.

The pipeline's time is that of the very action lists that training runs (`simulation`), or, for a search, the closed
form of the schedule; what the data axis and the optimizer add comes after the last backward. What a step waits for
outside of it (data, checkpoints) is not here.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

from megalith.arithmetic import flops_per_token
from megalith.job import Job
from megalith.planning.performance import data_parallel
from megalith.planning.performance.collectives import beside_sends, group, half_seconds, send_seconds
from megalith.planning.performance.constants import Constants, constants_for, normal_quantile
from megalith.planning.performance.experts import DISPATCHES, all_to_all_seconds, exchange
from megalith.planning.performance.layer_time import (
    LayerSeconds,
    LayerWork,
    Means,
    embedding_and_loss_seconds,
    layer_seconds,
    layer_work,
)
from megalith.planning.performance.pipeline_timeline import simulate
from megalith.planning.performance.stacks import Stack, stack_of
from megalith.planning.performance.stage_time import Deal, StageSeconds, deal_of, rank_layers, stage_seconds
from megalith.recipe import ModelConfig
from megalith.schedules import Lists, Op, build
from megalith.topology import Accelerator, Cluster, exchanged_key_heads, key_heads_on_a_rank

BEYOND = 0.03  # log spread more for each doubling of the accelerators beyond the largest job that was fitted
PLAYED = 32  # micro-batches, at least, after which a schedule only repeats itself


@dataclass(frozen=True, slots=True)
class StepTime:
    """A predicted step."""

    seconds: float
    interval: tuple[float, float]
    coverage: float
    """Share of measured steps that lie in intervals like this one."""
    bubble_fraction: float
    """Share of the pipeline's time in which its busiest rank waits."""
    tflops_per_gpu: float
    """Model FLOPs (no recomputation) in 10^12 a second."""
    mfu: float
    """Share of the accelerator's peak in the format of the layers' products."""
    parts: dict[str, float]
    """Seconds by what the busiest rank does; they add up to `seconds`."""
    durations: tuple[dict[Op, float], ...]
    """Seconds of each stage on one micro-batch, as `simulate` takes them; empty for a prediction in closed form."""
    send_seconds: tuple[float, ...]
    """Over each boundary between stages, where it does not keep the sender busy; empty in closed form."""


class _Pieces(NamedTuple):
    """One layer and both ends, as stages are made of them."""

    deal: Deal
    plain: StageSeconds
    """A layer."""
    first: StageSeconds
    """The embedding's part."""
    last: StageSeconds
    """The logits' part."""
    busy_send: float
    """Seconds that a send keeps the sender; 0 where it does not wait."""
    hop: float
    """Seconds that a message is under way beyond that."""


def predict_step(job: Job, constants: Constants | None = None, *, exact: bool = True) -> StepTime:
    """The step of `job`. With `exact=False` the schedule's closed form stands for its action lists.

    Raises RecipeError where the schedule cannot be built; see `schedules.build`.
    """
    known = constants_for(job) if constants is None else constants
    stack = stack_of(job.stack)
    device = device_of(job.cluster)
    peak = device.peak(job.product_type)
    pieces = _pieces(job, known, stack, device)
    busiest, pipeline_seconds = _closed(job, pieces)
    durations: tuple[dict[Op, float], ...] = ()
    hops: tuple[float, ...] = ()
    if exact:
        durations, hops = _durations(pieces)
        pipeline_seconds = _simulated(job, durations, hops)
    after = data_parallel.after_backward(job, known, stack, device, pieces.deal, busiest.total)
    count = job.micro_batches
    parts = {
        "computing": count * (busiest.total - busiest.recompute - busiest.tensor - busiest.sends - busiest.gathers),
        "recomputation": count * busiest.recompute,
        "tensor communication": count * busiest.tensor,
        "pipeline sends": count * busiest.sends,
        "weights gathered": count * busiest.gathers,
        "pipeline bubble": max(0.0, pipeline_seconds - count * busiest.total),
        "data communication": after.data,
        "tied embeddings": after.ends,
        "optimizer": after.optimizer,
    }
    seconds = sum(parts.values())
    if job.cluster.nodes > 1:
        parts["stragglers"] = seconds * known.straggling * math.sqrt(2 * math.log(job.cluster.nodes))
        seconds += parts["stragglers"]
    rate = _model_flops(job) / seconds / job.accelerators
    spread = known.spread
    if job.accelerators > known.most_accelerators > 0:
        spread = math.hypot(spread, BEYOND * math.log2(job.accelerators / known.most_accelerators))
    margin = math.exp(normal_quantile(known.coverage) * spread)
    return StepTime(
        seconds=seconds,
        interval=(seconds / margin, seconds * margin),
        coverage=known.coverage,
        bubble_fraction=parts["pipeline bubble"] / pipeline_seconds,
        tflops_per_gpu=rate / 1e12,
        mfu=rate / peak,
        parts=parts,
        durations=durations,
        send_seconds=hops,
    )


@functools.lru_cache(maxsize=64)
def device_of(cluster: Cluster) -> Accelerator:
    """The facts of a cluster's accelerator; of one without a datasheet, what is known of it."""
    if cluster.facts is not None:
        return cluster.facts
    peak = cluster.peak_flops_per_second or 1e11
    rates = dict.fromkeys(("fp32", "bf16", "fp16"), peak)
    return Accelerator(cluster.accelerator, "a100", rates, cluster.memory_bytes, 1e10, 1, (16, 16), 0.0)


def with_exchanges(layer: LayerSeconds, work: LayerWork, job: Job, known: Constants, split: bool) -> LayerSeconds:
    """A layer with the all-to-alls of its experts, and of heads for tokens; nothing hides them."""
    model, layout = job.model, job.layout
    if layout.context > 1 and job.context_method == "all_to_all":
        over = exchange(job.cluster, group(job.cluster, layout.context, layout.tensor), layout.tensor)
        head = work.residual_bytes * model.head_dim / model.hidden  # of all tokens of this rank
        queries = model.heads // layout.tensor
        keys = exchanged_key_heads(key_heads_on_a_rank(model, layout.tensor), layout.context)
        seconds = all_to_all_seconds(head * (queries + 2 * keys), over, known)
        seconds += all_to_all_seconds(head * queries, over, known)
        layer = layer._replace(
            context_forward=seconds,
            context_backward=seconds,
            tensor_recompute=layer.tensor_recompute + (seconds if job.recompute == "full" else 0.0),
        )
    if model.experts and job.expert > 1:
        stride = layout.tensor * layout.context
        over = exchange(job.cluster, group(job.cluster, job.expert, stride), stride)
        share = model.expert_layers / model.layers
        payload = work.residual_bytes * model.experts_per_token / (layout.tensor if split else 1)
        both = share * DISPATCHES * all_to_all_seconds(payload, over, known)
        layer = layer._replace(
            tensor_forward=layer.tensor_forward + both,
            tensor_backward=layer.tensor_backward + both,
            tensor_recompute=layer.tensor_recompute + (both if job.recompute == "full" else 0.0),
        )
    return layer


class _Busiest(NamedTuple):
    """The rank that the pipeline waits for, on one micro-batch."""

    total: float
    recompute: float
    tensor: float
    sends: float
    gathers: float


def _pieces(job: Job, known: Constants, stack: Stack, device: Accelerator) -> _Pieces:
    layout, cluster = job.layout, job.cluster
    tensor = group(cluster, layout.tensor, 1)
    context = group(cluster, layout.context if job.context_method == "ring" else 1, layout.tensor)
    split = job.sequence_parallel and layout.tensor > 1
    work = layer_work(
        job.model, job.micro_batch_size, layout.tensor, layout.context, split, job.fused_attention, device, job.expert
    )
    ends_in_product = job.model.dropout == 0 and job.model.layer_norm == "pre"  # else a mask or a norm comes after it
    stops_early = stack.stops_early and ends_in_product
    dealt = deal_of(job.model, layout.pipeline * job.virtual_stages, stack.balances)
    tensor = beside_sends(tensor, job, min(dealt), whole=not (split or stack.scatter_gather))
    overlaps = job.tensor_overlap and layout.tensor > 1
    keeps_gathered = stack.stops_early and job.recompute == "full"  # for the layer's own backward pass alone
    means = Means(
        device,
        job.precision,
        job.fp8,
        stack.attention,
        overlaps,
        job.cuda_graphs,
        stops_early,
        stack.remakes,
        split and stack.gathers_again and not keeps_gathered,
    )
    layer = layer_seconds(work, job.recompute, split, job.fused_attention, tensor, context, means, known)
    layer = with_exchanges(layer, work, job, known, split)
    tokens = job.micro_batch_size * job.model.sequence_length // layout.context
    ends = embedding_and_loss_seconds(job.model, tokens, tensor, job.precision, device, known)
    share = 1.0 / job.recompute_every if job.recompute != "none" else 0.0
    plain = stage_seconds(1, layer, ends, first=False, last=False, recomputed=share)
    if job.zero == 3 and layout.gradient_ranks > 1:
        plain = data_parallel.with_gathers(plain, job, known, stack)
    first = stage_seconds(0, layer, ends, first=True, last=False, recomputed=share)
    last = stage_seconds(0, layer, ends, first=False, last=True, recomputed=share)
    send = 0.0
    if layout.pipeline > 1:
        payload = work.residual_bytes
        over = group(cluster, 2, layout.tensor * layout.gradient_ranks)
        if split:
            payload /= layout.tensor
        elif stack.scatter_gather and layout.tensor > 1 and over.far:
            send = half_seconds(payload, tensor, known)
            payload /= layout.tensor
        send += send_seconds(payload, over, known)
    goes_on = stack.overlaps_interleaved_sends and job.virtual_stages > 1
    blocked = send if stack.blocking_sends and not goes_on else 0.0
    return _Pieces(dealt, plain, first, last, blocked, send - blocked)


def _closed(job: Job, pieces: _Pieces) -> tuple[_Busiest, float]:
    """The busiest rank, and the pipeline's time by the schedule's closed form."""
    pipeline, virtual = job.layout.pipeline, job.virtual_stages
    plain, first, last = pieces.plain, pieces.first, pieces.last
    layers = rank_layers(pieces.deal, pipeline)
    sends = 2 * virtual * pieces.busy_send if pipeline > 1 else 0.0
    edge = 2 * (virtual - 1) * pieces.busy_send + pieces.busy_send if pipeline > 1 else 0.0
    if pipeline == 1:
        extra = _Busiest(
            first.total + last.total, first.recompute + last.recompute, first.tensor + last.tensor, 0.0, 0.0
        )
        busiest = _add(extra, plain, layers.first)
        return busiest, job.micro_batches * busiest.total
    beginning = _add(_Busiest(first.total + edge, 0.0, first.tensor, edge, 0.0), plain, layers.first)
    ending = _add(_Busiest(last.total + edge, 0.0, last.tensor, edge, 0.0), plain, layers.last)
    busiest = beginning if beginning.total >= ending.total else ending
    if pipeline > 2:
        between = _add(_Busiest(sends, 0.0, 0.0, sends, 0.0), plain, layers.between)
        busiest = max(busiest, between, key=lambda one: one.total)
    everything = first.total + last.total + layers.every * plain.total + 2 * edge + (pipeline - 2) * sends
    others = max(0.0, everything - busiest.total)
    count = job.micro_batches
    if job.schedule == "interleaved-1f1b":
        fill = others / virtual + 2 * (pipeline - 1) * pieces.hop
    elif job.schedule in ("zb-h1", "zb-h2"):
        deep = 1 if job.schedule == "zb-h1" else 2
        late = plain.weight_gradient * layers.every * (pipeline - 1) / pipeline
        depth = 1 + min(deep, (count - 1) / (pipeline - 1))  # each micro-batch but the first fills one more gap
        fill = max(0.0, others - depth * late) + 2 * (pipeline - 1) * pieces.hop
    elif job.schedule == "gpipe":
        fill = others + 2 * (pipeline - 1) * pieces.hop
    else:
        fill = others + (2 * (pipeline - 1) + max(0, count - 1)) * pieces.hop
    return busiest, count * busiest.total + fill


def _add(base: _Busiest, layer: StageSeconds, count: int) -> _Busiest:
    return _Busiest(
        base.total + count * layer.total,
        base.recompute + count * layer.recompute,
        base.tensor + count * layer.tensor,
        base.sends,
        base.gathers + count * layer.gathers,
    )


def _durations(pieces: _Pieces) -> tuple[tuple[dict[Op, float], ...], tuple[float, ...]]:
    """Seconds of each stage's operations, and of a message over each boundary, as `simulate` takes them."""
    stages = len(pieces.deal)
    found = []
    for stage, count in enumerate(pieces.deal):
        own = [pieces.first] * (stage == 0) + [pieces.last] * (stage == stages - 1)
        forward = count * pieces.plain.forward + sum(one.forward for one in own)
        inputs = count * pieces.plain.input_gradient + sum(one.input_gradient for one in own)
        weights = count * pieces.plain.weight_gradient + sum(one.weight_gradient for one in own)
        forward += pieces.busy_send * (stage < stages - 1)
        inputs += pieces.busy_send * (stage > 0)
        found.append({
            Op.FORWARD: forward, Op.BACKWARD: inputs + weights, Op.INPUT_GRADIENT: inputs, Op.WEIGHT_GRADIENT: weights
        })  # fmt: skip
    return tuple(found), (pieces.hop,) * (stages - 1)


def _simulated(job: Job, durations: tuple[dict[Op, float], ...], hops: tuple[float, ...]) -> float:
    """The schedule played; a long one for as many micro-batches as it takes to repeat itself."""
    pipeline, count = job.layout.pipeline, job.micro_batches
    if pipeline == 1 and job.virtual_stages == 1:
        return count * durations[0][Op.FORWARD] + count * durations[0][Op.BACKWARD]

    def play(micro_batches: int) -> float:
        lists = _lists(job.schedule, pipeline, job.virtual_stages, micro_batches)
        return simulate(lists, durations, hops).step_seconds

    rounds = -(-PLAYED // pipeline)
    few, many = rounds * pipeline, (rounds + 1) * pipeline
    if count <= many:
        return play(count)
    left = (count - few) % pipeline
    early, late = play(few + left), play(many + left)
    return late + (count - many - left) / pipeline * (late - early)


@functools.lru_cache(maxsize=64)
def _lists(schedule: str, pipeline: int, virtual_stages: int, micro_batches: int) -> Lists:
    return build(schedule, pipeline, virtual_stages, micro_batches)


@functools.lru_cache(maxsize=512)
def _token_flops(model: ModelConfig) -> float:
    return flops_per_token(model)


def _model_flops(job: Job) -> float:
    """FLOPs of the step, recomputation not counted (`arithmetic.step_flops`)."""
    return _token_flops(job.model) * job.global_batch_size * job.model.sequence_length
