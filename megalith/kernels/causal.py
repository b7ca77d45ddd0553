"""Causal attention in bf16 on a CPU as plain batched products, a block of queries at a time.

torch's fused CPU kernel multiplies tiles too small for oneDNN's bf16 products on some processors: on AMD's with AVX-512
it takes three times as long. The probabilities are computed again in the backward pass, so that nothing of T × T is
kept. Scores are rounded before the softmax, as where attention is not fused (Megatron-LM); the softmax itself is fp32
inside.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels.choice import is_ours

BLOCK = 128  # queries at a time; keys after the block are never multiplied
LONG = 512  # tokens from which a sequence counts as long


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ / √D + causal mask)·v, all (B, H, T, D)."""
    if q.device.type != "cpu" or not _by_blocks(q) or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scaled = q * q.shape[-1] ** -0.5
    y: Tensor = _CausalAttention.apply(  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        *(each.flatten(0, 1).contiguous() for each in (scaled, k, v))
    )
    return y.view(q.shape)


def _by_blocks(q: Tensor) -> bool:
    return q.dtype == torch.bfloat16 and is_ours(f"bf16 {'long ' * (q.shape[2] >= LONG)}attention")


class _CausalAttention(torch.autograd.Function):
    """q (B·H, T, D) is scaled already."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = torch.empty_like(q)  # (B·H, T, D)
        for rows, seen in _blocks(q.shape[1]):
            y[:, rows] = torch.bmm(_probabilities(q, k, rows, seen), v[:, seen])
        ctx.save_for_backward(q, k, v)
        return y

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        g = outer[0].contiguous()
        q_gradient = torch.empty_like(q)
        k_gradient, v_gradient = (torch.zeros_like(each, dtype=torch.float32) for each in (k, v))
        for rows, seen in _blocks(q.shape[1]):
            p = _probabilities(q, k, rows, seen)  # (B·H, R, S)
            p_gradient = torch.bmm(g[:, rows], v[:, seen].transpose(1, 2))
            score_gradient = torch.ops.aten._softmax_backward_data(p_gradient, p, -1, p.dtype)
            q_gradient[:, rows] = torch.bmm(score_gradient, k[:, seen])
            k_gradient[:, seen] += torch.bmm(score_gradient.transpose(1, 2), q[:, rows])
            v_gradient[:, seen] += torch.bmm(p.transpose(1, 2), g[:, rows])
        return q_gradient, k_gradient.to(k.dtype), v_gradient.to(v.dtype)


def _blocks(length: int) -> list[tuple[slice, slice]]:
    """Queries of each block, and the keys that any of them sees."""
    return [(slice(at, min(at + BLOCK, length)), slice(0, min(at + BLOCK, length))) for at in range(0, length, BLOCK)]


def _probabilities(q: Tensor, k: Tensor, rows: slice, seen: slice) -> Tensor:
    """The softmax of the queries `rows` over the keys `seen`: (B·H, R, S)."""
    scores = torch.bmm(q[:, rows], k[:, seen].transpose(1, 2))
    own = scores[:, :, rows]
    own += torch.full(own.shape[1:], -torch.inf, dtype=q.dtype).triu_(1)
    return torch.softmax(scores, -1)
