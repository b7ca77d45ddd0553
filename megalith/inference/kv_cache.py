"""Keys and values of the tokens that were read, one cache for each sequence, and the attention over them.

A cache is allocated whole when its sequence is admitted, for all the tokens that it can come to hold, and freed with
it: its bytes are those of `arithmetic.kv_cache_bytes`. With a sliding window it is a ring of the window's length; keys
are rotated before they arrive, so that their order in it does not matter.

All tokens of a forward pass stand in one row, those of one sequence side by side, so that products see a single matrix
however many sequences there are, and nothing is padded. The attention of each sequence is by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels import causal_attention
from megalith.model.relative import distance_scores, relative_bias


@dataclass(frozen=True)
class CacheShape:
    """The part of a sequence's keys and values that this process holds."""

    layers: int
    heads: int
    """Heads of keys and values."""
    head_dim: int
    dtype: torch.dtype
    window: int | None
    """Tokens that a token sees, itself among them; None for all before it."""

    def slots(self, tokens: int) -> int:
        """Tokens that are held of so many."""
        return tokens if self.window is None else min(tokens, self.window)

    def bytes(self, tokens: int) -> int:
        """Bytes of a cache for so many tokens."""
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize * self.slots(tokens)


class KVCache:
    """The keys and values of one sequence."""

    def __init__(self, shape: CacheShape, tokens: int) -> None:
        """Room for so many tokens."""
        self.shape = shape
        self.bytes = shape.bytes(tokens)
        self.whole = torch.empty(2, shape.layers, shape.heads, shape.slots(tokens), shape.head_dim, dtype=shape.dtype)
        """Keys and values: (2, L, H_kv, S, D)."""


class OneToken:
    """The place of the next token of each of several sequences, and what it sees: found once for all layers."""

    def __init__(self, caches: Sequence[KVCache], starts: Sequence[int]) -> None:
        """`starts` are the positions of the tokens."""
        places, seen = [], []
        for cache, start in zip(caches, starts, strict=True):
            slots = cache.whole.shape[3]
            places.append(cache.whole[:, :, None, :, start % slots, None].unbind(1))  # L × (2, 1, H_kv, 1, D)
            seen.append(cache.whole[:, :, None, :, : min(start + 1, slots)].unbind(1))  # L × (2, 1, H_kv, S, D)
        self._places = [[each for pair in layer for each in pair.unbind()] for layer in zip(*places, strict=True)]
        self._seen = [[pair.unbind() for pair in layer] for layer in zip(*seen, strict=True)]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *relative: Tensor) -> Tensor:
        """Take in a key and value of each sequence (1, H_kv, N, D), and attend: (1, H, N, D).

        `relative` is what relative positions add, as to the core attention.
        """
        new = [each for pair in zip(torch.split(k, 1, 2), torch.split(v, 1, 2), strict=True) for each in pair]
        torch._foreach_copy_(self._places[layer], new)
        grouped = q.shape[1] != k.shape[1]
        biases = self._biases(*relative) if relative else [None] * q.shape[2]
        attended = [
            F.scaled_dot_product_attention(one, keys, values, attn_mask=bias, enable_gqa=grouped)
            for one, (keys, values), bias in zip(torch.split(q, 1, 2), self._seen[layer], biases, strict=True)
        ]
        return attended[0] if len(attended) == 1 else torch.cat(attended, 2)

    def _biases(self, position_q: Tensor, position_k: Tensor) -> list[Tensor | None]:
        """For each token (1, H, 1, S): its keys stand in the order of their positions, the farthest first."""
        scale = position_q.shape[-1] ** -0.5
        return [
            distance_scores(one, position_k[:, :, : keys.shape[2]]).flip(-1) * scale
            for one, (keys, _) in zip(torch.split(position_q, 1, 2), self._seen[0], strict=True)
        ]


class Chunk:
    """The next tokens of one sequence."""

    def __init__(self, cache: KVCache, start: int, count: int) -> None:
        self._keys, self._values = (each.unbind() for each in cache.whole)  # L × (H_kv, S, D)
        self._start, self._count, self._window = start, count, cache.shape.window
        self._passes_window = self._window is not None and start + count > self._window
        slots = cache.whole.shape[3]
        before = start if self._window is None else min(start, self._window - 1)
        self._before = torch.arange(start - before, start) % slots
        kept = min(count, slots)
        self._kept = torch.arange(start + count - kept, start + count) % slots
        self._mask: Tensor | None = None
        self._distances = torch.arange(start, start + count).unsqueeze(1) - torch.arange(start - before, start + count)
        if start > 0 or self._passes_window:
            self._mask = _band(count, before + count, self._window)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *relative: Tensor) -> Tensor:
        """Take in the keys and values (1, H_kv, T, D), and attend: (1, H, T, D); `relative` as in `OneToken`."""
        keys, values = self._keys[layer], self._values[layer]
        if self._passes_window:  # what the first token sees is read before others take its place
            seen = torch.cat([keys[:, self._before], k[0]], 1), torch.cat([values[:, self._before], v[0]], 1)
            kept = len(self._kept)
            keys[:, self._kept], values[:, self._kept] = k[0, :, -kept:], v[0, :, -kept:]
        else:
            new, end = slice(self._start, self._start + self._count), self._start + self._count
            keys[:, new], values[:, new] = k[0], v[0]
            seen = keys[:, :end], values[:, :end]
        mask = self._mask
        if relative:
            mask = relative_bias(relative[0], relative[1], self._distances).masked_fill(self._distances < 0, -torch.inf)
        if mask is not None:
            return F.scaled_dot_product_attention(
                q, seen[0][None], seen[1][None], attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
            )
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return causal_attention(q, k, v)


@dataclass
class Segment:
    """The tokens of one sequence in a forward pass."""

    cache: KVCache
    start: int
    """Position of the first of them, which is how many the cache holds."""
    count: int


@dataclass
class Flight:
    """The tokens of the forward pass under way: runs of them, each with its attention."""

    runs: list[OneToken | Chunk] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def board(self, segments: Sequence[Segment]) -> None:
        """Take the segments, in the order of their tokens; single tokens side by side are one run."""
        self.runs, self.sizes = [], []
        for single, group in groupby(segments, lambda each: each.count == 1):
            own = list(group)
            if single:
                self.runs.append(OneToken([each.cache for each in own], [each.start for each in own]))
                self.sizes.append(len(own))
            else:
                self.runs += [Chunk(each.cache, each.start, each.count) for each in own]
                self.sizes += [each.count for each in own]

    def land(self) -> None:
        """Let go of the caches."""
        self.runs, self.sizes = [], []


class CachedAttention(nn.Module):
    """Stands in for a layer's core attention: takes keys and values into the caches of the flight."""

    def __init__(self, layer: int, flight: Flight) -> None:
        super().__init__()
        self.layer = layer
        self.flight = flight

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *relative: Tensor) -> Tensor:
        """q (1, H, N, D), k and v (1, H_kv, N, D), N tokens of all segments, to (1, H, N, D)."""
        runs = self.flight.runs
        if len(runs) == 1:
            return runs[0].attend(self.layer, q, k, v, *relative)
        parts = zip(*(torch.split(each, self.flight.sizes, 2) for each in (q, k, v, *relative[:1])), strict=True)
        keys = relative[1:]  # the same for all
        return torch.cat([run.attend(self.layer, *own, *keys) for run, own in zip(runs, parts, strict=True)], 2)


def _band(queries: int, keys: int, window: int | None) -> Tensor:
    """Which keys (S) the last so many tokens see: those up to themselves, within the window."""
    seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    return seen if window is None else seen.triu(keys - queries - window + 1)
