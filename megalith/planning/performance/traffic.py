"""Messages of a rank in one training step: collectives, bytes and how often, by exact formulas for each axis.

Tensor: two all-reduces forward and two backward a layer (Megatron-LM §3), with sequence parallelism a reduce-scatter
and an all-gather in place of each and two more all-gathers backward (2205.05198 §4.2.2), and what the split vocabulary
takes. Pipeline: the residual stream over each boundary, and its gradient back. Context: two all-to-alls forward and two
backward a layer (2309.14509 §3). Data: the gradients in fp32, or what ZeRO makes of them. The formulas are those of
`megalith.parallel`. Scalars (losses, the norm) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from megalith.arithmetic import GRADIENT_BUCKET, LOSS_ROWS, parameters
from megalith.job import Job
from megalith.planning.performance.memory.parameters_per_rank import held
from megalith.planning.performance.memory.tensor_bytes import norm_parameters, whole_on_each_rank
from megalith.precision import FP32_BYTES
from megalith.recipe import ModelConfig
from megalith.schedules import layers_of_stages
from megalith.topology import exchanged_key_heads, key_heads_on_a_rank

MASKED_SHARE = 0.15  # of a bert's tokens have a loss (1810.04805 §3.1): its figures for the logits are about right

Collective = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"]


@dataclass(frozen=True)
class Traffic:
    """One kind of message that a rank sends in a step."""

    axis: Literal["tensor", "context", "pipeline", "data", "ends"]
    """ends: the first and the last stage of a pipeline, which both hold a tied embedding."""
    what: str
    collective: Collective
    group_size: int
    count: int
    """Times a step."""
    payload_bytes: int
    """Bytes of all `count` together: of the whole tensor, as an all-reduce, a reduce-scatter and an all-to-all take it
    and an all-gather gives it."""
    tier: str = ""
    """Links that the group needs; a layout alone does not say (`ranks` does)."""

    @property
    def wire_bytes(self) -> float:
        """Bytes that this rank sends in a ring: the least that any algorithm without in-network sums can do."""
        return self.payload_bytes * ring_share(self.collective, self.group_size)

    @property
    def hops(self) -> int:
        """Steps of the ring, one after another, of all `count` together."""
        steps = {"all_reduce": 2 * (self.group_size - 1), "send": 1}
        return self.count * steps.get(self.collective, self.group_size - 1)


def ring_share(collective: Collective, group_size: int) -> float:
    """Bytes that each rank of a ring sends, as a multiple of the payload (Patarasu and Yuan 2009)."""
    if collective == "send":
        return 1.0
    return (2 if collective == "all_reduce" else 1) * (group_size - 1) / group_size


def step_traffic(job: Job, pipeline_rank: int) -> list[Traffic]:
    """Everything that a rank at `pipeline_rank` sends in a step of `job`, at full sequences."""
    part = _Part(job, pipeline_rank)
    rows = [*_tensor(part), *_context(part), *_pipeline(part), *_data(part), *_ends(part)]
    return [row for row in rows if row.payload_bytes]


@dataclass(frozen=True)
class _Part:
    """A rank's part of the job."""

    job: Job
    pipeline_rank: int

    @property
    def model(self) -> ModelConfig:
        return self.job.model

    @property
    def tensor(self) -> int:
        return self.job.layout.tensor

    @property
    def pipeline(self) -> int:
        return self.job.layout.pipeline

    @property
    def micro_batches(self) -> int:
        return self.job.micro_batches

    @property
    def compute_bytes(self) -> int:
        return self.job.compute_bytes

    @property
    def stages(self) -> range:
        return range(self.pipeline_rank, self.job.stages, self.pipeline)

    @property
    def is_first_stage(self) -> bool:
        return 0 in self.stages

    @property
    def is_last_stage(self) -> bool:
        return self.job.stages - 1 in self.stages

    @cached_property
    def layers(self) -> list[int]:
        by_stage = layers_of_stages(self.model, self.job.stages)
        return [layer for stage in self.stages for layer in by_stage[stage]]

    @property
    def recomputed(self) -> int:
        """Layers that are computed again in whole."""
        every = self.job.recompute_every
        return sum(layer % every == 0 for layer in self.layers) if self.job.recompute == "full" else 0

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch, of each sample those of this rank: B · T / C."""
        return self.job.micro_batch_size * self.model.sequence_length // self.job.layout.context

    @property
    def stream(self) -> int:
        """Elements of their residual stream."""
        return self.tokens * self.model.hidden

    @property
    def reductions(self) -> int:
        """How often ZeRO reduces gradients: stages 2 and 3 after each micro-batch, but a pipeline once."""
        return self.micro_batches if self.job.zero >= 2 and self.pipeline == 1 else 1

    @property
    def sharded(self) -> bool:
        return self.job.zero > 0 and self.job.layout.gradient_ranks > 1


def _tensor(part: _Part) -> list[Traffic]:
    if part.tensor == 1:
        return []
    model, size, micro_batches, stream = part.model, part.tensor, part.micro_batches, part.stream
    split = part.job.sequence_parallel
    recomputed = part.recomputed
    # torch's checkpoint stops once it has what the backward pass needs: after the last product, or what follows its sum
    to_last = 2 if model.dropout or model.layer_norm != "pre" else 1

    def row(what: str, collective: Collective, count: int, payload: int) -> Traffic:
        return Traffic("tensor", what, collective, size, count, payload)

    def of_stream(what: str, collective: Collective, count: int) -> Traffic:
        return row(what, collective, count, count * stream * part.compute_bytes)

    down = micro_batches * (4 * len(part.layers) + to_last * recomputed)
    # two in each pass, and two for the products' inputs: gathered again for the weights' gradients, or computed again
    up = micro_batches * 6 * len(part.layers)
    rows = []
    if model.query_key_norm == "whole":  # a number a token for queries, and one for keys, each way
        shared = micro_batches * (4 * len(part.layers) + 2 * recomputed)
        shared_bytes = shared * part.tokens * FP32_BYTES
    else:
        shared = shared_bytes = 0
    if split:
        rows += [of_stream("layers", "reduce_scatter", down), of_stream("layers", "all_gather", up)]
        rows += [row("layers", "all_reduce", shared, shared_bytes)]
    else:
        rows += [row("layers", "all_reduce", down + shared, down * stream * part.compute_bytes + shared_bytes)]
    rows += _whole(part, split=split)
    if part.is_first_stage and split:
        rows += [of_stream("embedding", collective, micro_batches) for collective in ("reduce_scatter", "all_gather")]
    elif part.is_first_stage:
        rows += [of_stream("embedding", "all_reduce", micro_batches)]
    if part.is_last_stage:
        rows += _logits(part, of_stream, split=split)
    return rows


def _logits(part: _Part, of_stream: Callable[[str, Collective, int], Traffic], *, split: bool) -> list[Traffic]:
    """The features' gradient; and for each row of logits its maximum, sum of exponentials and target's logit."""
    micro_batches = part.micro_batches
    masked = part.model.family == "bert"
    labelled = round(MASKED_SHARE * part.tokens) if masked else part.tokens
    rows = []
    if split:
        rows += [of_stream("logits", "all_gather", micro_batches)]
    if masked or not split:
        payload = micro_batches * labelled * part.model.hidden * part.compute_bytes
        rows += [Traffic("tensor", "logits", "all_reduce", part.tensor, micro_batches, payload)]
    else:
        rows += [of_stream("logits", "reduce_scatter", micro_batches)]
    shared = 3 * micro_batches * labelled * max(FP32_BYTES, part.compute_bytes)
    chunks = 2 * micro_batches * -(-labelled // LOSS_ROWS)  # on a GPU fewer and longer, of as many bytes
    return [*rows, Traffic("tensor", "loss", "all_reduce", part.tensor, chunks, shared)]


def _whole(part: _Part, *, split: bool) -> list[Traffic]:
    """Gradients of the weights that every rank holds whole, each of which saw only its own tokens, or its own heads.

    The tokens are its own under sequence parallelism (`split`).
    """
    model, layers = part.model, len(part.layers)
    sizes = list(whole_on_each_rank(model, part.tensor)) * layers
    tables = parameters(model).position_embedding if part.is_first_stage and split else 0
    if split:
        norms = 2 * layers * norm_parameters(model) + (parameters(model).final_norm if _has_norm(part) else 0)
        sizes += [model.hidden] * (norms // model.hidden)
    element = part.compute_bytes if part.sharded and part.reductions == part.micro_batches else FP32_BYTES
    table_tensors = ((model.positions == "learned") + (model.family == "bert")) * bool(tables)
    count = (len(sizes) + table_tensors) * part.reductions if part.sharded else 1
    payload = (sum(sizes) + tables) * element * part.reductions
    return [Traffic("tensor", "whole weights", "all_reduce", part.tensor, count, payload)]


def _context(part: _Part) -> list[Traffic]:
    """Queries, keys and values to the ranks of their heads, and what attention gives back to those of their tokens."""
    model, context = part.model, part.job.layout.context
    if context == 1:
        return []
    keys = exchanged_key_heads(key_heads_on_a_rank(model, part.tensor), context)
    heads = 2 * (model.heads // part.tensor) + 2 * keys
    passes = part.micro_batches * (2 * len(part.layers) + part.recomputed)
    payload = passes * part.tokens * heads * model.head_dim * part.compute_bytes
    return [Traffic("context", "layers", "all_to_all", context, 2 * passes, payload)]


def _pipeline(part: _Part) -> list[Traffic]:
    if part.pipeline == 1:
        return []
    width = part.tensor if part.job.sequence_parallel else 1
    each = part.stream // width * part.compute_bytes
    forward = part.micro_batches * sum(stage < part.job.stages - 1 for stage in part.stages)
    backward = part.micro_batches * sum(stage > 0 for stage in part.stages)
    return [
        Traffic("pipeline", "activations", "send", 2, forward, forward * each),
        Traffic("pipeline", "gradients", "send", 2, backward, backward * each),
    ]


def _data(part: _Part) -> list[Traffic]:
    """Without ZeRO an all-reduce of each bucket; with it, FSDP2's units: each layer, the last norm, what else is there.

    That is the embeddings, which ZeRO-3 gathers once a micro-batch and the others twice, for each pass.
    ZeRO-3 in a pipeline gathers at most what is said here: what is still whole from the pass before is not gathered.
    """
    size = part.job.layout.gradient_ranks
    narrow, wide = _rank_parameters(part)
    if size == 1:
        return []
    if not part.sharded:
        buckets = -(-(narrow + wide) // GRADIENT_BUCKET)
        return [Traffic("data", "gradients", "all_reduce", size, buckets, (narrow + wide) * FP32_BYTES)]
    reductions = part.reductions
    gathers = 2 * part.micro_batches if part.job.zero == 3 else 1
    root_gathers = part.micro_batches if part.job.zero == 3 else 1
    roots = _roots(part)
    inner = len(part.layers) + part.is_last_stage * (part.model.ends_in_norm + (part.model.family == "bert"))
    units = inner + roots
    rows = []
    if part.job.shard_ranks > 1:
        payload = (gathers * narrow + root_gathers * wide) * part.compute_bytes
        count = gathers * inner + root_gathers * roots
        rows += [
            Traffic("data", "weights", "all_gather", part.job.shard_ranks, count, payload),
            Traffic("data", "gradients", "reduce_scatter", part.job.shard_ranks, reductions * units,
                    reductions * (narrow + wide) * FP32_BYTES),
        ]  # fmt: skip
    if size > part.job.shard_ranks:
        payload = -(-(narrow + wide) // part.job.shard_ranks) * FP32_BYTES
        rows += [Traffic("data", "gradients", "all_reduce", size // part.job.shard_ranks, reductions * units,
                         reductions * payload)]  # fmt: skip
    return rows


def _ends(part: _Part) -> list[Traffic]:
    """Both ends of the pipeline hold a tied embedding, and sum its gradients (Megatron-LM's embedding group)."""
    if part.pipeline == 1 or not part.model.tie_embeddings or not (part.is_first_stage or part.is_last_stage):
        return []
    table = parameters(part.model).token_embedding // part.tensor
    return [Traffic("ends", "embedding", "all_reduce", 2, 1, -(-table // part.job.shard_ranks) * FP32_BYTES)]


def _rank_parameters(part: _Part) -> tuple[int, int]:
    """Parameters of a rank before ZeRO shards them: those that compute in the layers' type, and in fp32."""
    own = held(
        part.model, part.tensor, len(part.layers), is_first_stage=part.is_first_stage, is_last_stage=part.is_last_stage
    )
    return round(own.layers), round(own.embeddings)


def _roots(part: _Part) -> int:
    """Stages of this rank that hold an embedding or an output projection: FSDP2's outermost unit."""
    return sum(stage in (0, part.job.stages - 1) for stage in part.stages)


def _has_norm(part: _Part) -> bool:
    """Whether this rank has the norm that no layer has: the last one, or a post-norm bert's after the embedding."""
    return part.is_last_stage if part.model.ends_in_norm else part.is_first_stage
