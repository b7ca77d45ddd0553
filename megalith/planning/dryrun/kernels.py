"""Kernels that keep for the backward pass what a GPU's do, where a CPU's keep something else.

The fake tensors say that they are on a CPU: torch without CUDA cannot differentiate others. Where the two devices
differ in what they keep, the GPU's way is taken here: dropout keeps a mask of bools, attention with dropout never has
its scores, an RMSNorm keeps its input and one number a token, our own kernels for the CPU are torch's, and the logits
are those of many tokens at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.arithmetic import loss_rows_on_a_gpu
from megalith.kernels import Linear
from megalith.model import attention, embedding, layer, loss
from megalith.parallel import recompute, vocabulary


@contextmanager
def gpu_kernels() -> Iterator[None]:
    """Within it, memory is taken as on a GPU; the values are of no use.

    The functions themselves are exchanged: torch's modes for this do not reach what a backward pass computes again.
    """
    kernel = F.scaled_dot_product_attention
    with (
        patch.multiple(
            F, scaled_dot_product_attention=partial(_attention, kernel), dropout=_dropout, rms_norm=_rms_norm
        ),
        patch.object(attention, "causal_attention", partial(kernel, is_causal=True)),
        patch.object(attention, "takes_groups", lambda q: q.dtype in (torch.bfloat16, torch.float16)),
        patch.object(recompute, "keeps_scores", lambda device: False),
        patch.object(layer, "gelu_tanh", partial(F.gelu, approximate="tanh")),
        patch.object(Linear, "forward", nn.Linear.forward),
        patch.object(embedding, "adds_up_in_fp32", lambda table: True),
        patch.object(loss, "all_count", lambda counts: False),
        patch.object(vocabulary, "all_count", lambda counts: False),
        patch.object(loss, "rows_at_a_time", _rows_at_a_time),
        patch.object(vocabulary, "rows_at_a_time", _rows_at_a_time),
    ):
        yield


def _rows_at_a_time(features: Tensor, vocab_size: int) -> int:
    return loss_rows_on_a_gpu(vocab_size)


def _attention(kernel: Any, *args: Any, dropout_p: float = 0.0, enable_gqa: bool = False, **kwargs: Any) -> Any:
    return _Grouped.apply(*args) if enable_gqa else kernel(*args, dropout_p=0.0, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def _rms_norm(x: Tensor, shape: Any, weight: Tensor, eps: float | None = None) -> Tensor:
    y: Tensor = _RMSNorm.apply(x, weight)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return y


class _Grouped(torch.autograd.Function):
    """Flash attention over shared heads of keys, by the shapes alone; it finds a gradient for each query first."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = torch.empty_like(q)  # (B, H, T, D)
        ctx.save_for_backward(q, k, v, y, q.select(-1, 0).float())
        return y

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, *_ = ctx.saved_tensors
        of_q, of_k, of_v = torch.empty_like(q), torch.empty_like(q), torch.empty_like(q)
        groups = (len(k), k.shape[1], -1, *k.shape[2:])
        return of_q, of_k.view(groups).sum(2), of_v.view(groups).sum(2)


class _RMSNorm(torch.autograd.Function):
    """By the shapes and placements alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        scale = x.select(-1, 0).float()  # (B, T)
        ctx.save_for_backward(x, weight, scale)
        return x * weight

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        x, weight, _ = ctx.saved_tensors
        (gradient,) = outer
        return gradient * weight, (gradient * x).sum(tuple(range(x.ndim - 1)))
