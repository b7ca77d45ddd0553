"""Bytes of the tensors that pass through one rank for one micro-batch, and of the weights that it holds."""

from functools import lru_cache
from typing import NamedTuple

from megalith.arithmetic import parameters, routed_parameters
from megalith.planning.performance.experts import DISPATCHES, width_met
from megalith.precision import FP32_BYTES
from megalith.recipe import ModelConfig
from megalith.topology import exchanged_key_heads, key_heads_on_a_rank, shares_key_heads


class StageSettings(NamedTuple):
    """The settings of a job on which the bytes of a stage's micro-batch depend, to cache by."""

    micro_batch_size: int
    tensor: int
    sequence_parallel: bool
    compute_bytes: int
    """Bytes of a number in the layers: 2, or 4 in fp32."""
    recompute: str
    recompute_every: int
    on_cpu: bool
    shard: int
    """Ranks that ZeRO shards over; 1 without ZeRO."""
    zero: int
    context: int
    several: bool
    """Whether there is an earlier micro-batch in the step."""
    expert: int = 1
    """Ranks that share the experts."""


class Sizes(NamedTuple):
    """Bytes. `stream` and all before it are of the tokens that this rank has of the residual stream."""

    tokens: int
    """How many, of a micro-batch (a count, no bytes)."""
    stream: float
    whole: float
    """All tokens of the sequence, as the products take them."""
    embedded_stream: float
    """As the embedding gives it."""
    embedded_whole: float
    wide_whole: float
    """In fp32."""
    query: float
    key: float
    """With the copies that are exchanged."""
    exchanged: float
    """Queries, keys and values that ranks exchange for those of whole samples; 0 where a rank has these."""
    padded: float
    """The heads of queries in whole blocks of a sliding window."""
    blocks: int
    """How many a sliding window makes of the sequence (a count); 0 without one."""
    ffn: float
    """One activation of the MLP's width."""
    norm: float
    """Kept by a norm beside its input."""
    lse: float
    """The attention's log-sum-exp."""
    scores: float
    """The scores of relative positions, of every token with every token; 0 without them."""
    relative_keys: float
    """The keys of their distances."""
    mask: float
    """The mask of one dropout."""
    rotation: float
    """Cosines and sines."""
    rotated: float
    """The part of each head that is rotated (a share)."""
    head_norms: float
    """Kept by the norms of queries and keys beside their inputs."""
    positions: float
    """The rows of learned positions that are looked up."""
    positions_table: float
    """All of the learned positions, which every tensor-parallel rank has."""
    query_weight: float
    key_weight: float
    ffn_weight: float
    layer_weights: float
    """All of a layer, in the type that it computes in."""
    table: float
    """This rank's rows of the token embedding."""
    embedding_bytes: int
    """Bytes of a number in the embeddings: 4, or the layers' where ZeRO has gathered them."""
    vocabulary: int
    """Rows of the logits on this rank (a count)."""
    whole_vocabulary: int
    """Tokens of the vocabulary, of all ranks (a count)."""
    hidden: int
    """Numbers of a token (a count)."""
    compute_bytes: int
    gathers: bool
    """Whether the stream is split along the sequence."""
    several_samples: bool
    """Whether a micro-batch has more than one: then what is gathered along the sequence is put in order by a copy."""
    reduces: bool
    """Whether products are summed over tensor-parallel ranks."""
    drops: bool
    rms: bool
    gated: bool
    rotary: bool
    copies_output: bool
    """Whether the core's output is copied, so that the heads of a token lie side by side for the projection."""
    expands: bool
    """Whether keys and values are repeated for each head of their group."""
    groups: bool
    """Whether the kernel finds the head of keys of each query by itself."""
    norms_again: int
    """Norms of a layer whose result selective recomputation makes again: those that products alone keep."""
    norms_heads: bool
    parallel_residual: bool
    on_cpu: bool
    shared: bool
    """ZeRO: the gradients of a layer's weights stay until the whole layer's are reduced."""

    @property
    def narrows(self) -> bool:
        """Whether what is looked up is wider than the layers' type."""
        return self.embedding_bytes != self.compute_bytes

    @property
    def is_padded(self) -> bool:
        """Whether the blocks of the window do not come out even."""
        return self.padded > self.query


@lru_cache(maxsize=4096)
def sizes(model: ModelConfig, settings: StageSettings) -> Sizes:
    """The bytes of `model` at this micro-batch and tensor parallelism."""
    t, c = settings.tensor, settings.compute_bytes
    e = c if settings.shard > 1 else FP32_BYTES
    tokens = settings.micro_batch_size * model.sequence_length // settings.context
    own = tokens / t if settings.sequence_parallel and t > 1 else float(tokens)
    looked_up = model.sequence_length / settings.context * (own / tokens)
    hidden, ffn, query_width = model.hidden, model.ffn_hidden, model.query_width
    rms, relative = model.norm == "rmsnorm", model.positions == "relative"
    gated = model.activation == "swiglu"
    norm = own * FP32_BYTES if rms else own * 2 * c
    lse = tokens * model.heads / t * FP32_BYTES
    mask = own * hidden
    computed = key_heads_on_a_rank(model, t)
    keys = exchanged_key_heads(computed, settings.context)
    key_columns = model.kv_width if shares_key_heads(model, t) else model.kv_width / t
    normed = model.heads / t + computed
    head_norms = tokens * FP32_BYTES * {"none": 0.0, "head": normed, "whole": 2.0}[model.query_key_norm]
    # an RMSNorm keeps what it has scaled, dropout a mask of numbers, attention with dropout its scores
    if settings.on_cpu:
        norm += rms * own * hidden * FP32_BYTES
        head_norms += (head_norms > 0) * tokens * normed * model.head_dim * FP32_BYTES
        mask *= c
        if model.dropout > 0:
            lse = 3.0 * tokens * model.heads / t * model.sequence_length * c
    gathers, grouped = settings.sequence_parallel and t > 1, keys * t != model.heads
    window = model.sliding_window or model.sequence_length
    blocks = -(-model.sequence_length // window)
    flash = not (settings.on_cpu or relative) and c < FP32_BYTES and blocks == 1 and model.family == "gpt"
    rows = -(-model.padded_vocab_size // t)
    return Sizes(
        tokens=tokens,
        stream=own * hidden * c,
        whole=float(tokens * hidden * c),
        embedded_stream=own * hidden * e,
        embedded_whole=float(tokens * hidden * e),
        wide_whole=float(tokens * hidden * FP32_BYTES),
        query=tokens * query_width / t * c,
        key=float(tokens * keys * model.head_dim * c),
        exchanged=tokens * (query_width / t + 2 * keys * model.head_dim) * c if settings.context > 1 else 0.0,
        padded=tokens * query_width / t * c * (blocks * window / model.sequence_length),
        blocks=blocks if blocks > 1 else 0,
        ffn=_mlp_stream(model, tokens, t, c) if model.experts else tokens * ffn / t * c,
        norm=norm,
        lse=lse,
        scores=tokens * model.heads / t * model.sequence_length * c if relative else 0.0,
        relative_keys=model.sequence_length * query_width / t / settings.context * c if relative else 0.0,
        mask=mask,
        rotation=model.sequence_length // settings.context * model.rotary_width * FP32_BYTES,
        rotated=model.rotary_width / model.head_dim,
        head_norms=head_norms,
        positions=looked_up * hidden * e if model.positions == "learned" else 0.0,
        positions_table=float(model.sequence_length * hidden * e) if model.positions == "learned" else 0.0,
        query_weight=hidden * query_width / t * c,
        key_weight=hidden * key_columns * c,
        ffn_weight=_mlp_weight(model, t, settings.expert) * c if model.experts else hidden * ffn / t * c,
        layer_weights=layer_parameters(model, t, settings.expert) * c,
        table=float(rows * hidden * e),
        embedding_bytes=e,
        vocabulary=model.vocab_size if t == 1 else min(rows, model.vocab_size),
        whole_vocabulary=model.vocab_size,
        hidden=hidden,
        compute_bytes=c,
        gathers=gathers,
        several_samples=settings.micro_batch_size > 1,
        reduces=t > 1,
        drops=model.dropout > 0,
        rms=rms,
        gated=gated,
        rotary=model.positions == "rotary",
        # heads lie apart after a rotation and blocks of a window, or on other ranks; with dropout, samples are put
        # together
        copies_output=model.positions == "rotary"
        or settings.context > 1
        or blocks > 1
        or (model.dropout > 0 and settings.micro_batch_size > 1 and not settings.on_cpu),
        expands=grouped and not flash,
        groups=grouped and flash,
        norms_again={"pre": 2, "post": 1}.get(model.layer_norm, 0),
        norms_heads=model.query_key_norm != "none",
        parallel_residual=model.parallel_residual,
        on_cpu=settings.on_cpu,
        shared=settings.shard > 1,
    )


def _mlp_stream(model: ModelConfig, tokens: float, tensor: int, compute_bytes: int) -> float:
    """The MLP's activation of a layer with experts, the mean of all layers, with the tokens that were sent for.

    A tape keeps four of them where the MLP is gated, two otherwise: what is dispatched is a part of each.
    """
    kept = 4 if model.activation == "swiglu" else 2
    sent = DISPATCHES * model.experts_per_token * model.hidden * model.expert_layers / model.layers
    return tokens * (width_met(model) / tensor + sent / kept) * compute_bytes


def _mlp_weight(model: ModelConfig, tensor: int, expert: int) -> float:
    """Weights of one of an MLP's matrices on a rank: of all its experts, as the mean of all layers."""
    assert model.experts  # the caller's check
    held = (model.experts / expert + model.shared_experts) * model.expert_hidden * model.expert_layers
    return model.hidden * (held + model.dense_layers * model.ffn_hidden) / model.layers / tensor


@lru_cache(maxsize=4096)
def layer_parameters(model: ModelConfig, tensor: int, expert: int = 1) -> float:
    """Parameters of one layer on a tensor-parallel rank, those that are whole on each among them.

    In a mixture the mean of all layers, with the experts of one of `expert` ranks; the router is whole on each.
    """
    norms = 2 * norm_parameters(model) + (2 * model.hidden if model.bias else 0)  # and biases after a sum
    whole: float = norms + sum(whole_on_each_rank(model, tensor))
    away = 0.0
    if model.experts:
        share = model.expert_layers / model.layers
        whole += share * model.hidden * model.experts
        away = share * routed_parameters(model) * (1 - 1 / expert) / tensor
    return (parameters(model).layers / model.layers - whole) / tensor + whole - away


@lru_cache(maxsize=4096)
def whole_on_each_rank(model: ModelConfig, tensor: int) -> tuple[int, ...]:
    """Sizes of a layer's weights that each rank holds whole and uses for its own heads alone."""
    sizes = [model.head_dim] * 2 if model.query_key_norm == "head" else []
    if shares_key_heads(model, tensor):
        sizes += [model.hidden * model.kv_width] * 2 + [model.kv_width] * (2 * model.has_qkv_bias)
        sizes += [model.kv_width] * (model.query_key_norm == "whole")
    return tuple(sizes)


def norm_parameters(model: ModelConfig) -> int:
    """Parameters of one norm."""
    return model.hidden * (2 if model.norm == "layernorm" and model.bias else 1)
