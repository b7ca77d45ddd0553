"""Transformer-XL's relative positions (1901.02860 §3.3), as Gopher and Chinchilla have them.

The score of query i and key j, i ≥ j, has four terms: q·k, q·r, u·k and v·r, where r = W_r · R_{i−j} is the projected
sinusoid of the distance, and u and v are vectors of the layer's heads; W_r, u and v are each layer's own. They are
computed as (q + u)·k + (q + v)·r. Scores by distance are moved to their keys by a shift of rows (the paper's appendix
B), so that (B, H, T, T) numbers are made beside the probabilities, which are kept for the backward pass.

There is no memory of earlier segments: a token sees its own sample.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.recipe import ModelConfig

_LONGEST = 10_000.0  # the longest wave is 2π times this


class RelativePositions(nn.Module):
    """W_r, u and v of one layer."""

    own: Callable[[Tensor], Tensor]
    """This rank's part of a parameter, by its heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.weight = nn.Parameter(torch.empty(config.query_width, config.hidden))
        self.content_bias = nn.Parameter(torch.zeros(config.query_width))
        self.position_bias = nn.Parameter(torch.zeros(config.query_width))
        self.own = _whole
        self._kept: Tensor | None = None

    def forward(self, q: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D) to q + u and q + v, and the keys of the distances 0 … length − 1: (B, H, L, D)."""
        content, position = (
            self.own(each).view(-1, 1, self.head_dim) for each in (self.content_bias, self.position_bias)
        )  # (H, 1, D)
        keys = self._keys(length) if self._kept is None else self._kept[:, :length]
        return q + content, q + position, keys.expand(len(q), -1, -1, -1)

    @torch.no_grad()
    def keep_keys(self, length: int) -> None:
        """Find the keys of so many distances once and for all: the weights stay as they are."""
        self._kept = self._keys(length)

    def _keys(self, length: int) -> Tensor:
        """(H, L, D)."""
        weight = self.own(self.weight)
        found: Tensor = _ProjectedSinusoids.apply(weight, length)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return found.view(length, -1, self.head_dim).transpose(0, 1)


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position_q: Tensor,
    position_k: Tensor,
    dropout: float = 0.0,
    starts: Tensor | None = None,
) -> Tensor:
    """Causal attention over T tokens: q (B, H, T, D), k and v as many heads, and what `RelativePositions` gives.

    With `starts` (B, T), as `documents` has them, within each document.
    """
    batch, heads, length, size = q.shape
    scale = size**-0.5
    shifted = _shift(distance_scores(position_q, position_k[:1, :, :length].flip(2)))  # (B, H, T, T)
    scores = torch.baddbmm(
        shifted.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), beta=scale, alpha=scale
    )
    scores += torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if starts is not None:
        other = (starts.unsqueeze(2) != starts.unsqueeze(1)).unsqueeze(1)  # (B, 1, T, T)
        scores.view(batch, heads, length, length).masked_fill_(other, -torch.inf)
    p = torch.softmax(scores, -1)
    if dropout:
        p = F.dropout(p, dropout)
    return torch.bmm(p, v.flatten(0, 1)).view(batch, heads, length, size)


def relative_bias(position_q: Tensor, position_k: Tensor, distances: Tensor) -> Tensor:
    """The terms added to q·k / √D at each of `distances` (T, S), (B, H, T, S); negative ones give any number."""
    scores = distance_scores(position_q, position_k)
    found = scores.gather(-1, distances.clamp(0, scores.shape[-1] - 1).expand(*scores.shape[:-1], -1))
    bias: Tensor = found * position_q.shape[-1] ** -0.5
    return bias


def distance_scores(position_q: Tensor, position_k: Tensor) -> Tensor:
    """(q + v)·r of each token at each distance, (B, H, T, L)."""
    scores: Tensor = torch.einsum("bhtd,hld->bhtl", position_q, position_k[0])
    return scores


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """R of the distances 0 … length − 1, (L, E) in fp64: sines, then cosines."""
    rates = _LONGEST ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    angles = torch.arange(length, dtype=torch.float64, device=device).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _whole(parameter: Tensor) -> Tensor:
    return parameter


def _shift(scores: Tensor) -> Tensor:
    """Scores (B, H, T, T) of the distances T − 1 … 0 to those of the keys 0 … T − 1.

    Keys after the query get other rows' scores.
    """
    *shape, length = scores.shape
    padded = F.pad(scores, (1, 0))  # (B, H, T, T + 1)
    return padded.view(*shape[:-1], length + 1, length)[..., 1:, :]


class _ProjectedSinusoids(torch.autograd.Function):
    """R · W_rᵀ, of which nothing is kept: the sinusoids are made again for the weight's gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, length: int) -> Tensor:
        ctx.length, ctx.width = length, weight.shape[1]
        return sinusoids(length, weight.shape[1], weight.device).to(weight.dtype) @ weight.T  # (L, H · D)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (g,) = outer
        return g.T @ sinusoids(ctx.length, ctx.width, g.device).to(g.dtype), None
