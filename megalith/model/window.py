"""Causal attention over a sliding window (2004.05150 §3.1), in blocks as long as the window.

The queries of a block look at the keys of their own block and of the one before it, so that the work grows with
tokens × window and not with the square of the tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def window_attention(q: Tensor, k: Tensor, v: Tensor, window: int, dropout: float = 0.0) -> Tensor:
    """softmax(q·kᵀ / √D)·v of each token over itself and the window − 1 tokens before it, all (B, H, T, D).

    `window` is smaller than T.
    """
    length = q.shape[2]
    q, k, v = _blocks(q, window), _blocks(k, window), _blocks(v, window)  # (B, N, H, W, D)
    first = F.scaled_dot_product_attention(
        q[:, 0].contiguous(), k[:, 0].contiguous(), v[:, 0].contiguous(), dropout_p=dropout, is_causal=True
    )  # (B, H, W, D); views would keep all of q, k and v for the backward pass
    later = q[:, 1:].flatten(0, 1)  # (B · (N − 1), H, W, D)
    keys, values = _with_the_block_before(k), _with_the_block_before(v)  # (B · (N − 1), H, 2 W, D)
    mask = torch.ones(window, 2 * window, dtype=torch.bool, device=q.device).tril(window).triu(1)
    rest = F.scaled_dot_product_attention(later, keys, values, attn_mask=mask, dropout_p=dropout)
    rest = rest.view(len(q), -1, *rest.shape[1:]).transpose(1, 2).flatten(2, 3)  # (B, H, (N − 1) · W, D)
    return torch.cat([first, rest], dim=2)[:, :, :length]


def _blocks(x: Tensor, window: int) -> Tensor:
    """(B, H, T, D), filled up with zeros, to (B, N, H, W, D)."""
    batch, heads, length, size = x.shape
    if length % window:
        x = F.pad(x, (0, 0, 0, -length % window))
    return x.reshape(batch, heads, -1, window, size).transpose(1, 2)


def _with_the_block_before(x: Tensor) -> Tensor:
    """(B, N, H, W, D) to (B · (N − 1), H, 2 W, D)."""
    return torch.cat([x[:, :-1], x[:, 1:]], dim=3).flatten(0, 1)
