"""Self-attention, with as many heads of keys and values as of queries or fewer, and rotary positions.

Grouped-query attention is 2305.13245, rotary positions 2104.09864 in Llama's layout: the first half of a head's
dimensions is rotated against the second half.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels import Linear, causal_attention
from megalith.recipe import ModelConfig


class Attention(nn.Module):
    """Each token looks at itself and at the tokens before it; in a BERT model, at all that are not padding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.rotary_base = config.rotary_base if config.positions == "rotary" else None
        self.query = Linear(config.hidden, config.query_width, bias=config.has_qkv_bias)
        self.key = Linear(config.hidden, config.kv_width, bias=config.has_qkv_bias)
        self.value = Linear(config.hidden, config.kv_width, bias=config.has_qkv_bias)
        self.core = CoreAttention(config)
        self.output = Linear(config.query_width, config.hidden, bias=config.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, E) to (B, T, E); `mask` (B, 1, 1, T) is true where a token may be looked at."""
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )  # (B, H, T, D), and (B, H_kv, T, D) twice
        if self.rotary_base is not None:
            rotation = rotary(q.shape[2], self.head_dim, self.rotary_base, like=q)
            q, k = rotate(q, rotation), rotate(k, rotation)
        y = self.core(q, k, v, mask)  # (B, H, T, D)
        mixed: Tensor = self.output(y.transpose(1, 2).flatten(2))  # (B, T, E)
        return mixed


class CoreAttention(nn.Module):
    """softmax(q·kᵀ / √D)·v: what selective recomputation computes again (2205.05198 §5)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.causal = config.family == "gpt"
        self.dropout = config.dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, H, T, D), k and v (B, H_kv, T, D) to (B, H, T, D)."""
        if q.shape[1] != k.shape[1]:
            group = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        dropout = self.dropout if self.training else 0.0
        if self.causal and not dropout:
            return causal_attention(q, k, v)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=self.causal)


Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, (T, D / 2) each."""


def rotary(length: int, head_dim: int, base: float, like: Tensor) -> Rotation:
    """Cosine and sine of position × base^(−2i / D), i = 0 … D/2 − 1, in fp32 or `like`'s wider type."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    places = torch.arange(length, dtype=torch.float64, device=like.device)
    rates = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device=like.device) / head_dim)
    angles = torch.outer(places, rates)  # (T, D / 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (i, i + D/2) of the head's dimensions by the angle of its position; the type of x is kept."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D / 2)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return turned.to(x.dtype)
