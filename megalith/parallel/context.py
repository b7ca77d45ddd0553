"""Context parallelism: ranks share the tokens of each sample, and exchange them for heads (Ulysses, 2309.14509).

Between layers a rank has T / C neighbouring tokens of each sample. Around the attention one all-to-all gives it all T
tokens of 1 / C of its heads of queries, with the heads of keys and values that these look at, and another brings the
outputs back. So what is computed between the two (windows, documents, relative positions, any kernel) is what one
process computes, on fewer heads, and no causal mask leaves a rank with more work than another. Heads of keys that C
does not divide are sent in as few copies as come out even.

The gradient of a weight is on each rank that of its own tokens, or of its own heads: the ranks of a sample are
neighbours among those that add up their gradients and share ZeRO's shards.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megalith.model import Transformer
from megalith.parallel.mesh import Mesh
from megalith.topology import exchanged_key_heads

MicroBatch = Mapping[str, Tensor]
"""`tokens` (B, T), and by name what else the model's forward takes."""
BY_TOKEN = ("tokens", "targets")
"""Inputs of which a rank has those of its own tokens; `document_starts` every rank has whole."""


def own_tokens(batch: MicroBatch, ranks: Mesh) -> MicroBatch:
    """This rank's part of a micro-batch of whole samples."""
    if ranks.context == 1:
        return batch
    return {
        name: value.chunk(ranks.context, dim=1)[ranks.context_index] if name in BY_TOKEN else value
        for name, value in batch.items()
    }


def share_samples(model: Transformer, ranks: Mesh) -> None:
    """Have `model` take a part of each sample, as `own_tokens` cuts it; its tensors are already split."""
    model.context_ranks, model.context_rank = ranks.context, ranks.context_index
    for layer in model.numbered_layers.values():
        attention = layer.attention
        attention.to_heads, attention.to_tokens = _heads_of(ranks), _tokens_of(ranks)
        if model.config.positions == "relative":
            attention.relative.own = _own_heads(attention.relative.own, ranks)


def _heads_of(ranks: Mesh) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of T / C tokens to those of T tokens and a part of their heads."""

    def to_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        copies = exchanged_key_heads(k.shape[1], ranks.context) // k.shape[1]
        if copies > 1:
            k, v = k.repeat_interleave(copies, dim=1), v.repeat_interleave(copies, dim=1)
        q, k, v = _ToHeads.apply(ranks.context_group, q, k, v)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return q, k, v

    return to_heads


def _tokens_of(ranks: Mesh) -> Callable[[Tensor], Tensor]:
    """The other way, of what the core makes of them."""

    def to_tokens(y: Tensor) -> Tensor:
        found: Tensor
        (found,) = _ToTokens.apply(ranks.context_group, y)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return found

    return to_tokens


def _own_heads(own: Callable[[Tensor], Tensor], ranks: Mesh) -> Callable[[Tensor], Tensor]:
    """The rows of this rank's heads, among those that `own` gives of a parameter."""
    return lambda parameter: own(parameter).chunk(ranks.context)[ranks.context_index]


class _ToHeads(torch.autograd.Function):
    """Each of some tensors (B, H, T / C, D) to (B, H / C, T, D), with its own H, in one message."""

    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        return _to_heads(group, tensors)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *_to_tokens(ctx.group, outer))


class _ToTokens(torch.autograd.Function):
    """Each of some tensors (B, H / C, T, D) to (B, H, T / C, D)."""

    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        return _to_tokens(group, tensors)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *_to_heads(ctx.group, outer))


def _to_heads(group: dist.ProcessGroup, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    count = dist.get_world_size(group)
    by_rank = [_parts(each, 1, count) for each in tensors]  # (C, B, H / C, T / C, D)
    return tuple(each.movedim(0, 2).flatten(2, 3) for each in _exchange(group, by_rank))


def _to_tokens(group: dist.ProcessGroup, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The heads of a token lie side by side in what it gives, as projections take them."""
    count = dist.get_world_size(group)
    by_rank = [_parts(each, 2, count) for each in tensors]  # (C, B, H / C, T / C, D)
    found = _exchange(group, by_rank)
    return tuple(each.permute(1, 3, 0, 2, 4).flatten(2, 3).transpose(1, 2) for each in found)


def _parts(tensor: Tensor, dimension: int, count: int) -> Tensor:
    """The parts of a dimension of which each rank gets one: (C, …)."""
    shape = tensor.shape
    cut = tensor.reshape(*shape[:dimension], count, shape[dimension] // count, *shape[dimension + 1 :])
    return cut.movedim(dimension, 0)


def _exchange(group: dist.ProcessGroup, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Give each rank its part of tensors (C, B, H, T, D), and put the parts that come in their places."""
    sent = torch.cat(tuple(tensors), dim=2).contiguous()
    found = torch.empty_like(sent)
    dist.all_to_all_single(found, sent, group=group)
    return torch.split(found, [each.shape[2] for each in tensors], dim=2)
