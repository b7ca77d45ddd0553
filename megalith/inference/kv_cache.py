"""Keys and values of the tokens that were read, one cache for each sequence, and the attention over them.

A cache is allocated whole when its sequence is admitted, for all the tokens that it can come to hold, and freed with
it: its bytes are those of `arithmetic.kv_cache_bytes`. With a sliding window it is a ring of the window's length; keys
are rotated before they arrive, so that their order in it does not matter.

All tokens of a forward pass stand in one row, those of one sequence side by side, so that products see a single matrix
however many sequences there are, and nothing is padded. The attention of each sequence is by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels import causal_attention


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
        whole = torch.empty(2, shape.layers, shape.heads, shape.slots(tokens), shape.head_dim, dtype=shape.dtype)
        self._keys, self._values = (each.unbind() for each in whole)  # a layer's is (H_kv, S, D)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Take in the keys and values (H_kv, T, D) of the tokens from `start` on, and attend: (H, T, D)."""
        window, count = self.shape.window, q.shape[1]
        if count == 1:
            return self._one(layer, q, k, v, start)
        if window is not None and start + count > window:
            return self._within_window(layer, q, k, v, start, window)
        keys, values = self._keys[layer], self._values[layer]
        keys[:, start : start + count] = k
        values[:, start : start + count] = v
        if start == 0:
            group = q.shape[0] // k.shape[0]
            y = causal_attention(q[None], _repeated(k, group), _repeated(v, group))
        else:
            seen = slice(0, start + count)
            y = _attend(q, keys[:, seen], values[:, seen], _band(count, start + count, None))
        return y[0]

    def _one(self, layer: int, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        keys, values = self._keys[layer], self._values[layer]
        slots = keys.shape[1]
        place = start if self.shape.window is None else start % slots
        keys[:, place : place + 1] = k
        values[:, place : place + 1] = v
        if start + 1 < slots:
            keys, values = keys[:, : start + 1], values[:, : start + 1]
        return _attend(q, keys, values, None)[0]

    def _within_window(self, layer: int, q: Tensor, k: Tensor, v: Tensor, start: int, window: int) -> Tensor:
        """The keys that the first of these tokens sees, in their order, are read before others take their places."""
        keys, values = self._keys[layer], self._values[layer]
        slots = keys.shape[1]
        count, before = q.shape[1], min(start, window - 1)
        places = torch.arange(start - before, start) % slots
        y = _attend(
            q,
            torch.cat([keys[:, places], k], dim=1),
            torch.cat([values[:, places], v], dim=1),
            _band(count, before + count, window),
        )
        kept = min(count, slots)
        places = torch.arange(start + count - kept, start + count) % slots
        keys[:, places], values[:, places] = k[:, -kept:], v[:, -kept:]
        return y[0]


@dataclass
class Segment:
    """The tokens of one sequence in a forward pass."""

    cache: KVCache
    start: int
    """Position of the first of them, which is how many the cache holds."""
    count: int


@dataclass
class Flight:
    """The segments of the forward pass under way, in the order of their tokens."""

    segments: Sequence[Segment] = field(default_factory=list)


class CachedAttention(nn.Module):
    """Stands in for a layer's core attention: takes keys and values into the caches of the flight."""

    def __init__(self, layer: int, flight: Flight) -> None:
        super().__init__()
        self.layer = layer
        self.flight = flight

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (1, H, N, D), k and v (1, H_kv, N, D), N tokens of all segments, to (1, H, N, D)."""
        segments = self.flight.segments
        if len(segments) == 1:
            only = segments[0]
            return only.cache.attend(self.layer, q[0], k[0], v[0], only.start)[None]
        sizes = [segment.count for segment in segments]
        parts = [
            segment.cache.attend(self.layer, *own, segment.start)
            for segment, *own in zip(segments, *(torch.split(each[0], sizes, dim=1) for each in (q, k, v)), strict=True)
        ]
        return torch.cat([part.transpose(0, 1) for part in parts]).transpose(0, 1)[None]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q (H, T, D) over k and v (H_kv, S, D), with a mask (T, S) of what may be looked at: (1, H, T, D)."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=len(q) != len(k))


def _band(queries: int, keys: int, window: int | None) -> Tensor:
    """Which keys (S) the last so many tokens see: those up to themselves, within the window."""
    seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    return seen if window is None else seen.triu(keys - queries - window + 1)


def _repeated(x: Tensor, group: int) -> Tensor:
    """(H_kv, T, D) to (1, H, T, D)."""
    return (x if group == 1 else x.repeat_interleave(group, dim=0))[None]
