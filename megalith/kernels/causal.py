"""Causal attention on a CPU as plain batched products, a block of queries at a time.

torch's fused CPU kernel multiplies tiles too small for oneDNN's bf16 products on some processors: on AMD's with AVX-512
it takes three times as long. In bf16 the probabilities are computed again in the backward pass, so that nothing of
T × T is kept; scores are rounded before the softmax, as where attention is not fused (Megatron-LM); the softmax itself
is fp32 inside. In fp32, sequences of FP32_LEAST to LONG tokens keep their probabilities, and as many heads are taken
together as fit a core's cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels.choice import is_ours

BLOCK = 128  # queries at a time in bf16; keys after the block are never multiplied
FP32_BLOCK = 64
FP32_LEAST = 192  # tokens below which torch's fused kernel is as fast in fp32
LONG = 512  # tokens from which a sequence counts as long
_SCORES_AT_A_TIME = 2**19  # of all heads together, in fp32: what stays in a core's cache


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ / √D + causal mask)·v, all (B, H, T, D)."""
    function = None if q.device.type != "cpu" or torch.compiler.is_compiling() else _chosen(q)
    if function is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scaled = q * q.shape[-1] ** -0.5
    y: Tensor = function.apply(  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        *(each.flatten(0, 1).contiguous() for each in (scaled, k, v))
    )
    return y.view(q.shape)


def _chosen(q: Tensor) -> type[torch.autograd.Function] | None:
    """The implementation for tensors of this type and length; None for torch's own."""
    length = q.shape[2]
    if q.dtype == torch.bfloat16 and is_ours(f"bf16 {'long ' * (length >= LONG)}attention"):
        return _CausalAttention
    kept = q.dtype == torch.float32 and FP32_LEAST <= length < LONG
    return _KeptAttention if kept and is_ours("fp32 attention") else None


class _CausalAttention(torch.autograd.Function):
    """q (B·H, T, D) is scaled already."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = torch.empty_like(q)  # (B·H, T, D)
        for rows, seen in _blocks(q.shape[1], BLOCK):
            y[:, rows] = torch.bmm(_probabilities(q, k, rows, seen), v[:, seen])
        ctx.save_for_backward(q, k, v)
        return y

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        g = outer[0].contiguous()
        q_gradient = torch.empty_like(q)
        k_gradient, v_gradient = (torch.zeros_like(each, dtype=torch.float32) for each in (k, v))
        for rows, seen in _blocks(q.shape[1], BLOCK):
            p = _probabilities(q, k, rows, seen)  # (B·H, R, S)
            p_gradient = torch.bmm(g[:, rows], v[:, seen].transpose(1, 2))
            score_gradient = torch.ops.aten._softmax_backward_data(p_gradient, p, -1, p.dtype)
            q_gradient[:, rows] = torch.bmm(score_gradient, k[:, seen])
            k_gradient[:, seen] += torch.bmm(score_gradient.transpose(1, 2), q[:, rows])
            v_gradient[:, seen] += torch.bmm(p.transpose(1, 2), g[:, rows])
        return q_gradient, k_gradient.to(k.dtype), v_gradient.to(v.dtype)


class _KeptAttention(torch.autograd.Function):
    """q (B·H, T, D) is scaled already."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = torch.empty_like(q)  # (B·H, T, D)
        kept = []
        for heads in _groups(q):
            for rows, seen in _blocks(q.shape[1], FP32_BLOCK):
                p = _probabilities(q[heads], k[heads], rows, seen)  # (G, R, S)
                y[heads, rows] = torch.bmm(p, v[heads, seen])
                if any(ctx.needs_input_grad):
                    kept.append(p)
        ctx.save_for_backward(q, k, v, y, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, y, *kept = ctx.saved_tensors
        g = outer[0].contiguous()
        mean = (g * y).sum(-1, keepdim=True)  # Σ p · dp of each row of scores (2205.14135, B.2)
        q_gradient = torch.empty_like(q)
        k_gradient, v_gradient = torch.zeros_like(k), torch.zeros_like(v)
        probabilities = iter(kept)
        for heads in _groups(q):
            for rows, seen in _blocks(q.shape[1], FP32_BLOCK):
                p = next(probabilities)
                score_gradient = torch.bmm(g[heads, rows], v[heads, seen].transpose(1, 2))
                score_gradient.sub_(mean[heads, rows]).mul_(p)
                q_gradient[heads, rows] = torch.bmm(score_gradient, k[heads, seen])
                k_gradient[heads, seen] += torch.bmm(score_gradient.transpose(1, 2), q[heads, rows])
                v_gradient[heads, seen] += torch.bmm(p.transpose(1, 2), g[heads, rows])
        return q_gradient, k_gradient, v_gradient


def _groups(q: Tensor) -> list[slice]:
    """Heads of as many sequences as are taken together: (B·H, T, D) in slices of the first axis."""
    at_once = max(1, _SCORES_AT_A_TIME * torch.get_num_threads() // (FP32_BLOCK * q.shape[1]))
    return [slice(first, first + at_once) for first in range(0, len(q), at_once)]


def _blocks(length: int, size: int) -> list[tuple[slice, slice]]:
    """Queries of each block, and the keys that any of them sees."""
    return [(slice(at, min(at + size, length)), slice(0, min(at + size, length))) for at in range(0, length, size)]


def _probabilities(q: Tensor, k: Tensor, rows: slice, seen: slice) -> Tensor:
    """The softmax of the queries `rows` over the keys `seen`: (B·H, R, S)."""
    scores = torch.bmm(q[:, rows], k[:, seen].transpose(1, 2))
    own = scores[:, :, rows]
    own += torch.full(own.shape[1:], -torch.inf, dtype=q.dtype).triu_(1)
    return torch.softmax(scores, -1)
