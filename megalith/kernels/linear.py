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
    tokens = x.numel() // x.shape[-1]
    plain = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)  # no DTensor
    if not plain or x.dtype != torch.float32 or x.device.type != "cpu" or tokens % _IMAGES or tokens == 0:
        return F.linear(x, weight, bias)
    if torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    image = x.reshape(_IMAGES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (16, E, 1, tokens / 16)
    y = F.conv2d(image, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
