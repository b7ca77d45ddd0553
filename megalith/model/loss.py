"""Cross entropy from features, a few hundred tokens at a time: the logits of a whole batch are never held.

The gradient is found along with the loss, so nothing but the two gradients waits for the backward pass. Losses and
the weight's gradient are summed in fp32 and above whatever the type of the products. (torch 2.13's own
`linear_cross_entropy` sums bf16 losses in bf16, or else multiplies in fp32.)
"""

from typing import Any

import torch
from torch import Tensor

IGNORE = -100
ROWS = 256  # tokens at a time: their logits stay in a CPU's caches; more gains nothing


def linear_cross_entropy(features: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Σ −log softmax(features · weightᵀ)[target], in nats, as float64; targets of −100 do not count.

    features (N, E), weight (V, E), targets (N). Under autocast the products are of its type.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    total: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        features, weight, targets, dtype, torch.is_grad_enabled()
    )
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, with_gradients: bool
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        feature_gradient = torch.empty_like(features) if with_gradients else None
        weight_gradient = torch.zeros_like(weight) if with_gradients else None
        narrow_weight = weight.to(dtype)
        for first in range(0, len(features), ROWS):
            rows = slice(first, first + ROWS)
            x = features[rows].to(dtype)  # (R, E)
            counts = targets[rows] != IGNORE  # (R)
            chosen = targets[rows].clamp_min(0).unsqueeze(1)  # (R, 1)
            logits = torch.mm(x, narrow_weight.T)  # (R, V)
            log_p = torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(dtype, torch.float32))
            total -= log_p.gather(1, chosen).squeeze(1).mul(counts).sum(dtype=torch.float64)
            if feature_gradient is not None and weight_gradient is not None:
                p = log_p.exp_()
                p.scatter_add_(1, chosen, p.new_full((1, 1), -1.0).expand_as(chosen))
                logit_gradient = p.mul_(counts.unsqueeze(1)).to(dtype)  # (R, V): softmax − one-hot
                feature_gradient[rows] = torch.mm(logit_gradient, narrow_weight)
                weight_gradient += torch.mm(logit_gradient.T, x)
        ctx.save_for_backward(feature_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        feature_gradient, weight_gradient = ctx.saved_tensors
        scale = outer[0]
        return (
            feature_gradient * scale.to(feature_gradient.dtype),
            weight_gradient * scale.to(weight_gradient.dtype),
            None,
            None,
            None,
        )
