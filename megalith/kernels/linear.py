"""Linear layers whose fp32 products go to oneDNN on a CPU: a 1 × 1 convolution over channels that lie last.

torch sends fp32 products to MKL, which on AMD's processors leaves half of AVX-512 unused; its convolutions go to
oneDNN, which does not. The view costs no copy, and the result and its gradients are contiguous.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_IMAGES = 16  # torch leaves smaller batches of a single thread to its own convolution


class Linear(nn.Linear):
    """x·weightᵀ + bias."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) to (…, F)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What torch.nn.functional.linear gives, up to rounding."""
    if not _as_images(x, weight):
        return F.linear(x, weight, bias)
    y = F.conv2d(_images(x), weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def linear_backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x (N, E) and weight (F, E), from that of x·weightᵀ (N, F)."""
    if not _as_images(x, weight):
        return torch.mm(gradient, weight), torch.mm(gradient.T, x)
    kernel, window, wanted = weight[:, :, None, None], ([1, 1], [0, 0], [1, 1]), [True, True, False]
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        _images(gradient), _images(x), kernel, None, *window, False, [0, 0], 1, wanted
    )
    return of_x.permute(0, 2, 3, 1).reshape(x.shape), of_weight[:, :, 0, 0]


def _as_images(x: Tensor, weight: Tensor) -> bool:
    """Whether the convolution gives the product, and is the quicker way to it."""
    tokens = x.numel() // x.shape[-1]
    plain = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)  # no DTensor
    if not plain or x.dtype != torch.float32 or x.device.type != "cpu" or tokens % _IMAGES:
        return False
    return tokens > 0 and len(weight) > 0 and not torch.compiler.is_compiling()


def _images(x: Tensor) -> Tensor:
    """(…, E) seen as (16, E, 1, tokens / 16)."""
    return x.reshape(_IMAGES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
