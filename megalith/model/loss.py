"""Cross entropy from features, a few hundred tokens at a time: the logits of a whole batch are never held.

The gradient is found along with the loss, so nothing but the two gradients waits for the backward pass. Products are in
the features' type; losses and the weight's gradient are summed in fp32 and above. (torch 2.13's own
`linear_cross_entropy` sums bf16 losses in bf16, or else multiplies in fp32.) A z-loss (PaLM, 2204.02311 §5; ST-MoE,
2202.08906 §3.3) pulls log Z, the logarithm of the softmax's denominator, towards 0.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from megalith.arithmetic import LOSS_ROWS, loss_rows_on_a_gpu
from megalith.kernels import add_weight_gradient, input_gradient, linear

IGNORE = -100


class CrossEntropy(Protocol):
    """The type of `linear_cross_entropy`."""

    def __call__(
        self,
        features: Tensor,
        weight: Tensor,
        targets: Tensor,
        vocab_size: int,
        bias: Tensor | None = None,
        z_loss: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """The sum of the token losses, and the z-loss's part of it."""


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    targets: Tensor,
    vocab_size: int,
    bias: Tensor | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Σ −log softmax(logits)[target] + z_loss · log² Z, in nats, and Σ z_loss · log² Z alone, without a gradient.

    features (…, E), weight (V, E) and bias (V) of which the first `vocab_size` rows are tokens, targets (…), of which
    −100 do not count; logits are features · weightᵀ + bias, and Z = Σ exp(logits). Both sums are one float64 number.
    """
    total, z = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        features.flatten(0, -2),
        weight,
        bias,
        targets.flatten(),
        vocab_size,
        z_loss,
        torch.is_grad_enabled(),
    )
    return total, z


def z_losses(log_z: Tensor, counts: Tensor, z_loss: float) -> Tensor:
    """Σ z_loss · log² Z over the tokens (R) that count, float64."""
    return z_loss * log_z.square().mul(counts).sum(dtype=torch.float64)


def with_z_gradient(p: Tensor, log_z: Tensor, z_loss: float) -> Tensor:
    """The softmax (R, V), in place, times 1 + 2 · z_loss · log Z: the part of the logits' gradient that it makes."""
    return p.mul_((1 + 2 * z_loss * log_z).unsqueeze(1))


def rows_at_a_time(features: Tensor, vocab_size: int) -> int:
    """Tokens whose logits are held at once; the same on every rank that shares the vocabulary."""
    return LOSS_ROWS if features.device.type == "cpu" else loss_rows_on_a_gpu(vocab_size)


def biased_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (R, E) · weightᵀ (E, V) + bias (V): (R, V)."""
    return linear(x, weight, bias if bias is None else bias.to(x.dtype))


def wide_zeros_like(weight: Tensor | None) -> Tensor | None:
    """Where the gradient of a weight or a bias is summed: in fp32 and above."""
    return None if weight is None else torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))


def all_count(counts: Tensor) -> bool:
    """Whether every token counts, as far as that can be known without waiting for a GPU."""
    return counts.device.type == "cpu" and bool(counts.all())


def keep(ctx: Any, *found: tuple[Tensor | None, Tensor | None]) -> None:
    """Keep the gradients that were found in the forward pass for `hand_over`: the features', and the tables'.

    Each is given beside what it is the gradient of.
    """
    ctx.save_for_backward(*(gradient for _, gradient in found))
    ctx.dtypes = [None if x is None else x.dtype for x, _ in found]
    ctx.outer = None


def hand_over(ctx: Any, outer: Tensor) -> list[Tensor | None]:
    """The gradients times the outer one.

    The tables' are scaled where they lie, so that none is held twice. A second backward pass over the same loss, as
    zero-bubble schedules have it, gets copies.
    """
    features, *tables = ctx.saved_tensors
    scale = outer if ctx.outer is None else torch.where(ctx.outer == outer, 1.0, outer / ctx.outer)
    found = [None if features is None else scaled(features, outer)]
    for table, dtype in zip(tables, ctx.dtypes[1:], strict=True):
        if table is None:
            found.append(None)
        elif ctx.outer is None:
            found.append(table.data.mul_(scale.to(table.dtype)).to(dtype))  # `data`: the change is meant
        else:
            found.append((table * scale.to(table.dtype)).to(dtype))
    ctx.outer = ctx.outer if ctx.outer is not None else outer
    return found


def scaled(gradient: Tensor, scale: Tensor) -> Tensor:
    """A gradient times a number, which is not rounded to the gradient's type."""
    wide = torch.promote_types(gradient.dtype, torch.float32)  # bf16 would round the scale, and with it every layer
    return (gradient.to(wide) * scale.to(wide)).to(gradient.dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        vocab_size: int,
        z_loss: float,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        total, z_total = torch.zeros(2, dtype=torch.float64, device=features.device).unbind()
        feature_gradient = torch.empty_like(features) if with_gradients else None
        weight_gradient = wide_zeros_like(weight) if with_gradients else None
        bias_gradient = wide_zeros_like(bias) if with_gradients else None
        narrow_weight = weight[:vocab_size].to(features.dtype)
        own_bias = None if bias is None else bias[:vocab_size]
        at_a_time = rows_at_a_time(features, vocab_size)
        for first in range(0, len(features), at_a_time):
            rows = slice(first, first + at_a_time)
            x = features[rows]  # (R, E)
            counts = targets[rows] != IGNORE  # (R)
            chosen = targets[rows].clamp_min(0).unsqueeze(1)  # (R, 1)
            logits = biased_product(x, narrow_weight, own_bias)  # (R, V)
            wide = torch.promote_types(x.dtype, torch.float32)
            log_z = torch.logsumexp(logits.to(wide), 1) if z_loss else None  # (R)
            log_p = torch.log_softmax(logits, dim=-1, dtype=wide)
            if log_z is not None:
                z_total += z_losses(log_z, counts, z_loss)
            total -= log_p.gather(1, chosen).squeeze(1).mul(counts).sum(dtype=torch.float64)
            if feature_gradient is not None and weight_gradient is not None:
                p = log_p.exp_()
                if log_z is not None:
                    with_z_gradient(p, log_z, z_loss)
                p.scatter_add_(1, chosen, p.new_full((1, 1), -1.0).expand_as(chosen))
                if not all_count(counts):
                    p.mul_(counts.unsqueeze(1))
                logit_gradient = p.to(x.dtype)  # (R, V): softmax − one-hot
                feature_gradient[rows] = input_gradient(logit_gradient, x, narrow_weight)
                add_weight_gradient(weight_gradient[:vocab_size], logit_gradient, x, narrow_weight)
                if bias_gradient is not None:
                    bias_gradient[:vocab_size] += logit_gradient.sum(0, dtype=bias_gradient.dtype)
        keep(ctx, (features, feature_gradient), (weight, weight_gradient), (bias, bias_gradient))
        ctx.mark_non_differentiable(z_total)
        return total + z_total, z_total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (*hand_over(ctx, outer[0]), None, None, None, None)
