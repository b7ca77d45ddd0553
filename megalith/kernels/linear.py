"""Linear layers of which each fp32 product on a CPU is MKL's or oneDNN's, whichever the processor runs faster.

torch sends fp32 products to MKL, which on AMD's processors leaves half of AVX-512 unused; its convolutions go to
oneDNN, which does not: a product is a 1 × 1 convolution over channels that lie last. The view costs no copy, and the
result and its gradients are contiguous. Forward, input gradient and weight gradient are chosen separately.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels.choice import PRODUCTS, is_ours

_IMAGES = 16  # torch leaves smaller batches of a single thread to its own convolution
_FEWEST = 2**26  # multiplications below which a call's overhead counts, and torch's product is taken
_WIDE = 8  # outputs per input from which a layer counts as one to the vocabulary
_GEOMETRY = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, output padding, groups


class Linear(nn.Linear):
    """x·weightᵀ + bias."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) to (…, F)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, up to rounding."""
    kind = _kind(x, weight)
    if kind is None or not any(_is_convolution(kind, product) for product in PRODUCTS):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _forward(kind, x, weight, bias)
    y: Tensor = _Linear.apply(x, weight, bias, kind)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return y


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of x (N, E) from that of x·weightᵀ (N, F)."""
    if not _is_convolution(_kind(x, weight), "input gradient"):
        return torch.mm(gradient, weight)
    return _rows(_convolved(gradient, x, weight, [True, False, False])[0]).reshape(x.shape)


def add_weight_gradient(total: Tensor, gradient: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add to `total` the gradient of weight (F, E) from that of x·weightᵀ (N, F)."""
    if _is_convolution(_kind(x, weight), "weight gradient"):
        total += _convolved(gradient, x, weight, [False, True, False])[1][:, :, 0, 0]
    elif total.dtype == x.dtype:
        torch.addmm(total, gradient.T, x, out=total)
    else:
        total += torch.mm(gradient.T, x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kind: str) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kind = kind
        return _forward(kind, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, gradient = x.flatten(0, -2), outer[0].flatten(0, -2)
        needed = ctx.needs_input_grad[:2]
        mask = [
            each and _is_convolution(ctx.kind, product)
            for each, product in zip(needed, ("input gradient", "weight gradient"), strict=True)
        ]
        found = _convolved(gradient, rows, weight, [*mask, False]) if any(mask) else (None, None, None)
        of_x = _rows(found[0]).reshape(x.shape) if mask[0] else None
        of_weight = found[1][:, :, 0, 0] if mask[1] else None
        if needed[0] and of_x is None:
            of_x = torch.mm(gradient, weight).view(x.shape)
        if needed[1] and of_weight is None:
            of_weight = torch.mm(gradient.T, rows)
        return of_x, of_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None, None


def _forward(kind: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _is_convolution(kind, "forward"):
        return F.linear(x, weight, bias)
    return _rows(F.conv2d(_images(x), weight[:, :, None, None], bias)).reshape(*x.shape[:-1], -1)


def _is_convolution(kind: str | None, product: str) -> bool:
    return kind is not None and is_ours(f"{kind} {product}")


def _convolved(gradient: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Any, ...]:
    """Gradients of x as images, of weight as a kernel, and of a bias, as far as wanted."""
    found: tuple[Any, ...] = torch.ops.aten.convolution_backward(
        _images(gradient), _images(x), weight[:, :, None, None], None, *_GEOMETRY, wanted
    )
    return found


def _kind(x: Tensor, weight: Tensor) -> str | None:
    """The class of operations that this product belongs to; None where torch's own is taken whatever is chosen."""
    plain = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)  # no DTensor
    if not plain or x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu":
        return None
    tokens = x.numel() // x.shape[-1]
    if tokens % _IMAGES or x.numel() * len(weight) < _FEWEST or torch.compiler.is_compiling():
        return None
    return "fp32 vocabulary" if len(weight) >= _WIDE * x.shape[-1] else "fp32 linear"


def _images(x: Tensor) -> Tensor:
    """(…, E) seen as (16, E, 1, tokens / 16)."""
    return x.reshape(_IMAGES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


def _rows(images: Tensor) -> Tensor:
    """The view of `_images` taken back, but for the number of rows."""
    return images.permute(0, 2, 3, 1)
