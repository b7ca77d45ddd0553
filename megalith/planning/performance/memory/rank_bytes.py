"""Bytes by kind on each pipeline rank of a job under our own training."""

from functools import cache, lru_cache

from megalith.job import Job
from megalith.machine import cpu_name
from megalith.planning.performance.memory.parameters_per_rank import (
    RankParameters,
    first_layers,
    held,
    layer_counts,
    state_bytes,
    with_lean_optimizer,
)
from megalith.planning.performance.memory.result import PARTS
from megalith.planning.performance.memory.stage_passes import (
    PeakState,
    RankPeak,
    StagePasses,
    batch_bytes,
    pipeline_peak_state,
    rank_peak,
    stage_passes,
)
from megalith.planning.performance.memory.tensor_bytes import StageSettings, sizes
from megalith.planning.performance.memory.zero import standing
from megalith.recipe import ModelConfig
from megalith.topology import LOCAL, Cluster, shard_ranks

RING_BUFFERS = 4
KINDS = PARTS[:-1]  # but for the context, which no formula counts


def our_parts(job: Job, rank: int) -> dict[str, float]:
    """By kind, without fragments and context."""
    pipeline, virtual, micro_batches = job.layout.pipeline, job.virtual_stages, job.micro_batches
    turn = pipeline_peak_state(job.schedule, rank, pipeline, virtual, micro_batches)
    many = micro_batches if micro_batches <= turn.most else turn.most + 1  # more of them take no more
    settings = stage_settings(job)
    int8 = job.optimizer_state == "int8"
    found, batch = _rank_bytes(job.model, settings, turn, rank, pipeline, virtual, many, int8, job.offload_optimizer)
    parts = dict(zip(KINDS, found, strict=True))
    parts["activations"] += batch * micro_batches
    if (
        job.layout.context > 1 and job.context_method == "ring"
    ):  # keys and values that come and those that go, in each direction of the ring
        parts["buffers"] += RING_BUFFERS * sizes(job.model, settings).key
    return parts


@lru_cache(maxsize=262144)
def _rank_bytes(
    model: ModelConfig,
    settings: StageSettings,
    turn: PeakState,
    rank: int,
    pipeline: int,
    virtual_stages: int,
    micro_batches: int,
    int8: bool,
    offload: bool,
) -> tuple[tuple[float, ...], float]:
    """By KINDS, each stage's rotation among the activations; and the tokens of a micro-batch, which all lie ready."""
    held_by = _holds(model, settings.tensor, rank, pipeline, virtual_stages, settings.expert)
    passes, stream, batch = _passes(model, _alike(settings, pipeline), rank, pipeline, virtual_stages)
    # the experts of a rank are sharded over fewer ranks than the rest: all of them over all of the data axis
    all_of_it = held_by if settings.shard == 1 else _holds(model, settings.tensor, rank, pipeline, virtual_stages, 1)
    state = state_bytes(all_of_it, settings.compute_bytes, settings.shard)
    if int8 or offload:
        state = with_lean_optimizer(
            state, all_of_it, settings.shard, settings.compute_bytes, int8=int8, offload=offload
        )
    gathered = gradients = reduction = 0.0
    if settings.shard > 1:
        peak, (gathered, gradients, reduction) = _with_zero(
            settings, held_by, passes, stream, turn, micro_batches, pipeline
        )
    else:
        peak = rank_peak(passes, stream, turn)
    rotating = sum(count > 0 for count in layer_counts(model, pipeline * virtual_stages)[rank::pipeline])
    found = (
        state.weights + gathered,
        state.gradients + gradients,
        state.optimizer,
        peak.activations + rotating * sizes(model, settings).rotation * (model.positions == "rotary"),
        peak.logits,
        peak.working,
        peak.buffers + reduction,
    )
    return found, batch


def stage_settings(job: Job) -> StageSettings:
    """The settings of `job` on which the passes of its stages depend."""
    return StageSettings(
        job.micro_batch_size,
        job.layout.tensor,
        job.sequence_parallel,
        job.compute_bytes,
        job.recompute,
        job.recompute_every,
        on_cpu(job.cluster),
        shard_ranks(job.zero, job.zero_shard, job.layout.gradient_ranks),
        job.zero,
        job.layout.context,
        job.micro_batches > 1,
        job.expert,
    )


def on_cpu(cluster: Cluster) -> bool:
    """Whether the accelerators are this machine's cores."""
    return cluster.name == LOCAL and cluster.accelerator == _processor()


@cache
def _processor() -> str:
    return cpu_name()


def _with_zero(
    settings: StageSettings,
    held_by: RankParameters,
    passes: tuple[StagePasses, ...],
    stream: float,
    turn: PeakState,
    micro_batches: int,
    pipeline: int,
) -> tuple[RankPeak, tuple[float, float, float]]:
    """The first backward pass finds no gradients yet; a later one does, with as much or less in flight.

    As long as forward passes are left each follows a backward pass, which an interleaved schedule takes through the
    last stage of the rank for as many micro-batches as there are ranks, and then through the stage before it.
    """
    pipelined, stages = pipeline > 1, len(passes)

    def stands(share: float) -> tuple[float, float, float]:
        """With the gradients of that share of the rank's stages."""
        gathered, gradients, reduction = standing(
            settings.zero, held_by.layers, held_by.embeddings, settings.shard, settings.compute_bytes,
            pipelined=pipelined, several=share > 0,
        )  # fmt: skip
        return gathered, share * gradients, reduction

    if not pipelined:
        return rank_peak(passes, stream, turn), stands(float(micro_batches > 1))
    backwards = max(0, micro_batches * stages - turn.most)  # before the last forward pass, when as much is in flight
    begun = min(stages, -(-backwards // pipeline)) / stages
    found = rank_peak(passes, stream, turn), stands(begun)
    if begun == 1.0 or micro_batches == 1:
        return found
    fewer = turn._replace(held=tuple(max(0, count - 1) for count in turn.held))
    later = rank_peak(passes, stream, fewer), stands(1.0)
    return max(found, later, key=lambda each: each[0].total + sum(each[1]))


def _alike(settings: StageSettings, pipeline: int) -> StageSettings:
    """Settings with the same passes: the ranks that ZeRO shards over count only where one micro-batch reduces at once.

    Its stages 1 and 2 differ only where no pipeline puts gradients aside.
    """
    if settings.shard == 1 or (pipeline == 1 and not settings.several):
        return settings
    return settings._replace(shard=2, zero=max(2, settings.zero) if pipeline > 1 else settings.zero)


@lru_cache(maxsize=65536)
def _holds(
    model: ModelConfig, tensor: int, rank: int, pipeline: int, virtual_stages: int, expert: int
) -> RankParameters:
    stages = pipeline * virtual_stages
    counts = layer_counts(model, stages)
    layers = embeddings = 0.0
    for stage in range(rank, stages, pipeline):
        own = held(model, tensor, counts[stage], is_first_stage=stage == 0, is_last_stage=stage == stages - 1,
                   expert=expert)  # fmt: skip
        layers += own.layers
        embeddings += own.embeddings
    return RankParameters(layers, embeddings)


@lru_cache(maxsize=65536)
def _passes(
    model: ModelConfig, settings: StageSettings, rank: int, pipeline: int, virtual_stages: int
) -> tuple[tuple[StagePasses, ...], float, float]:
    """Passes of the rank's stages; bytes between stages; bytes of one batch of tokens and targets."""
    stages = pipeline * virtual_stages
    counts, firsts = layer_counts(model, stages), first_layers(model, stages)
    every = settings.recompute_every
    known: dict[tuple[int, int], StagePasses] = {}  # most stages are alike
    passes = []
    for stage in range(rank, stages, pipeline):
        own = (firsts[stage] % every, counts[stage])
        if stage in (0, stages - 1) or own not in known:
            found = stage_passes(model, settings, *own, is_first_stage=stage == 0, is_last_stage=stage == stages - 1)
            if stage in (0, stages - 1):
                passes.append(found)
                continue
            known[own] = found
        passes.append(known[own])
    s = sizes(model, settings)
    return tuple(passes), s.stream, batch_bytes(s, 1)
