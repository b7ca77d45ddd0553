"""RMSNorm (1910.07467) that is only read, in four operations on a CPU; torch 2.13 composes it of nine.

x / √(Σx² / n + ε) · w is x / hypot(‖x‖, √(n·ε)) · (w·√n).
"""

import math

import torch
from torch import Tensor, nn


def quick_norm(norm: nn.RMSNorm) -> nn.Module | None:
    """The same norm with its weights as they are now, up to rounding; None for other types than fp32 on a CPU."""
    weight = norm.weight
    if type(weight) is not nn.Parameter or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    return _QuickNorm(weight.detach(), norm.eps or torch.finfo(weight.dtype).eps)


class _QuickNorm(nn.Module):
    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self._weight = weight * math.sqrt(len(weight))
        self._least = torch.tensor(math.sqrt(len(weight) * epsilon))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.div(x, torch.hypot(length, self._least)).mul_(self._weight)
