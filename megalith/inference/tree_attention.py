"""Attention over the tree of a pass: each token sees its ancestors and itself."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.inference.prefix_tree import Branch, Pass, Places
from megalith.kernels import causal_attention
from megalith.model.attention import Attention
from megalith.model.relative import relative_attention, relative_bias

_Seen = tuple[slice, Tensor, Tensor | None, Tensor]
"""A branch's tokens in the pass, the slots before them, what is added to the scores (0 or −∞), and how far its keys
stand before its tokens (T, P + T)."""


class Tree:
    """The pass under way, for all layers, and the keys and values that each keeps for the next one."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        """By layer, keys and values (1, H_kv, C, D)."""
        self._step: Pass | None = None
        self._branches: list[_Seen] | None = None
        self._keep = torch.empty(0, dtype=torch.int64)

    def enter(self, step: Pass, device: torch.device) -> None:
        """Begin a pass: the first of its plan, or the one after the last that was entered."""
        self._step, self._branches, self._cached = step, None, len(self._keep)
        self._keep = torch.from_numpy(step.kept).to(device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *relative: Tensor) -> Tensor:
        """q (1, H, N, D), k and v (1, H_kv, N, D) to (1, H, N, D); `relative` is as the core attention's."""
        group = q.shape[1] // k.shape[1]
        whole = k, v
        if (kept := self._kept.pop(layer, None)) is not None:
            whole = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)  # (1, H_kv, C + N, D)
        y = q.new_zeros(1, q.shape[2], q.shape[1], q.shape[3])  # (1, N, H, D); the filling stays 0
        for own, before, bias, distances in self._seen(q):
            where = (relative[0][:, :, own], relative[1]) if relative else None
            queries, keys, values = q[:, :, own], k[:, :, own], v[:, :, own]
            if bias is None:
                if group > 1:
                    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
                if where:
                    attended = relative_attention(queries, keys, values, *where)
                else:
                    attended = causal_attention(queries, keys, values)
            else:
                if len(before):
                    keys = torch.cat([whole[0].index_select(2, before), keys], 2)  # (1, H_kv, P + T, D)
                    values = torch.cat([whole[1].index_select(2, before), values], 2)
                if where:
                    bias = bias + relative_bias(*where, distances)
                attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, enable_gqa=group > 1)
            y[:, own] = attended.transpose(1, 2)
        if len(self._keep):
            self._kept[layer] = whole[0].index_select(2, self._keep), whole[1].index_select(2, self._keep)
        return y.transpose(1, 2)

    def _seen(self, like: Tensor) -> list[_Seen]:
        """The branches with their tensors, made once for all layers."""
        if self._branches is None:
            assert self._step is not None
            zero = torch.zeros((), dtype=like.dtype, device=like.device)
            slots = np.concatenate([np.arange(self._cached), self._step.positions])  # what is kept is one path
            self._branches = [
                (
                    slice(branch.first, branch.end),
                    torch.from_numpy(branch.before).to(like.device),
                    None
                    if branch.mask is None
                    else torch.where(torch.from_numpy(branch.mask).to(like.device), zero, -torch.inf),
                    torch.from_numpy(_distances(branch, slots, self._cached)).to(like.device),
                )
                for branch in self._step.branches
            ]
        return self._branches


def _distances(branch: Branch, positions: Places, cached: int) -> Places:
    """Positions of a branch's tokens less those of what it sees (T, P + T); `positions` are those of the slots."""
    own = positions[cached + branch.first : cached + branch.end]
    distances: Places = own[:, None] - np.concatenate([positions[branch.before], own])
    return distances


class TreeAttention(nn.Module):
    """Stands in for a layer's core attention."""

    def __init__(self, layer: int, tree: Tree) -> None:
        super().__init__()
        self.layer = layer
        self.tree = tree

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *relative: Tensor) -> Tensor:
        """q (1, H, N, D), k and v (1, H_kv, N, D), N tokens of a pass, to (1, H, N, D)."""
        return self.tree.attend(self.layer, q, k, v, *relative)


def with_trees(model: nn.Module, tree: Tree) -> None:
    """Put attention over a tree in place of the core attention of each layer."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    for layer, attention in enumerate(attentions):
        attention.core = TreeAttention(layer, tree)
