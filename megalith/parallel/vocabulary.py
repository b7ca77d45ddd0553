"""The vocabulary split over ranks (Megatron-LM §3): its embedding, and its cross entropy.

Of the embedding each rank looks up the tokens that it has, and the sum over ranks is whole. Of the logits no rank ever
has a whole row: the ranks share two numbers a token besides the maximum, the sum of exponentials and the logit of the
target. Rows of the padded vocabulary are left out before the maximum. As in `model.loss`, the loss finds the gradients
too. (DTensor's own embedding makes the gradient of the whole table on every rank.)
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate

from megalith.kernels import add_weight_gradient, input_gradient
from megalith.model.embedding import look_up
from megalith.model.loss import (
    IGNORE,
    all_count,
    biased_product,
    hand_over,
    keep,
    rows_at_a_time,
    wide_zeros_like,
    with_z_gradient,
    z_losses,
)


def vocabulary_parallel_embedding(tokens: Tensor, weight: Tensor, stream: Placement, dtype: torch.dtype) -> Tensor:
    """Rows (B, T, E) of a table (V, E) that is split by rows; whole on every rank, or split as `stream` says.

    They are summed over the ranks in `dtype`, which rounds nothing more: one rank alone has the row of a token.
    """
    assert isinstance(weight, DTensor)
    own = weight.to_local()  # (V', E)
    place = tokens - first_row(weight)
    here = (place >= 0) & (place < len(own))
    if len(own):
        rows = look_up(torch.where(here, place, 0), own)
    else:  # more ranks than rows: zeros, of which the gradient is wanted all the same
        rows = own.new_zeros(*tokens.shape, own.shape[1]) + own.sum()
    rows = rows.to(dtype) * here.unsqueeze(-1)
    whole: Tensor = DTensor.from_local(rows, weight.device_mesh, [Partial()], run_check=False)
    return whole.redistribute(placements=[stream]).to_local()  # type: ignore[attr-defined,no-any-return]  # a DTensor


def first_row(weight: DTensor) -> int:
    """The first row of this rank, as DTensor cuts them."""
    mesh = weight.device_mesh
    return min(-(-weight.shape[0] // mesh.size()) * mesh.get_local_rank(), weight.shape[0])


def vocabulary_parallel_cross_entropy(
    features: Tensor,
    weight: Tensor,
    targets: Tensor,
    vocab_size: int,
    bias: Tensor | None = None,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute `model.loss.linear_cross_entropy` on every rank, with a `weight` (V, E) that is split by rows.

    features (…, E) are whole, or a DTensor split along the sequence; a `bias` (V) is split as the weight.
    """
    assert isinstance(weight, DTensor)
    assert bias is None or isinstance(bias, DTensor)
    mesh = weight.device_mesh
    if not isinstance(features, DTensor):
        features = DTensor.from_local(features, mesh, [Replicate()], run_check=False)
    whole = features.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
    first = first_row(weight)
    total, z = _VocabularyParallel.apply(  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        whole.flatten(0, -2),
        weight.to_local(),
        None if bias is None else bias.to_local(),
        targets.flatten(),
        first,
        max(0, vocab_size - first),
        rows_at_a_time(whole, vocab_size),
        mesh.get_group(),
        z_loss,
        torch.is_grad_enabled(),
    )
    return total, z


class _VocabularyParallel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        first_row: int,
        rows_that_count: int,
        at_a_time: int,
        group: dist.ProcessGroup,
        z_loss: float,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        total, z_total = torch.zeros(2, dtype=torch.float64, device=features.device).unbind()
        feature_gradient = torch.empty_like(features) if with_gradients else None
        weight_gradient = wide_zeros_like(weight) if with_gradients else None
        bias_gradient = wide_zeros_like(bias) if with_gradients else None
        own = weight[:rows_that_count]  # (V', E)
        narrow = own.to(features.dtype)
        own_bias = None if bias is None else bias[:rows_that_count]
        wide = torch.promote_types(features.dtype, torch.float32)
        for first in range(0, len(features), at_a_time):
            rows = slice(first, first + at_a_time)
            x = features[rows]  # (R, E)
            counts = targets[rows] != IGNORE  # (R)
            place = targets[rows] - first_row
            here = (place >= 0) & (place < len(own)) & counts  # (R): this rank has the target's logit
            logits = biased_product(x, narrow, own_bias).to(wide)  # (R, V')
            highest = logits.amax(1) if len(own) else logits.new_full((len(x),), -torch.inf)
            dist.all_reduce(highest, dist.ReduceOp.MAX, group)
            chosen = torch.where(here, place, 0).unsqueeze(1)  # (R, 1)
            exponentials = logits.sub_(highest.unsqueeze(1))
            target_logit = exponentials.gather(1, chosen).squeeze(1) if len(own) else highest
            target_logit = torch.where(here, target_logit, 0)
            exponentials = exponentials.exp_()
            shared = torch.stack([exponentials.sum(1), target_logit])  # (2, R)
            dist.all_reduce(shared, group=group)
            log_z = shared[0].log() + highest if z_loss else None  # (R)
            if log_z is not None:
                z_total += z_losses(log_z, counts, z_loss)
            total -= (shared[1] - shared[0].log()).mul(counts).sum(dtype=torch.float64)
            if feature_gradient is not None and weight_gradient is not None:
                p = exponentials.div_(shared[0].unsqueeze(1))
                if log_z is not None:
                    with_z_gradient(p, log_z, z_loss)
                if len(own):
                    p.scatter_add_(1, chosen, -here.to(p.dtype).unsqueeze(1))
                if not all_count(counts):
                    p.mul_(counts.unsqueeze(1))
                logit_gradient = p.to(x.dtype)  # (R, V'): softmax − one-hot
                feature_gradient[rows] = input_gradient(logit_gradient, x, narrow)
                add_weight_gradient(weight_gradient[:rows_that_count], logit_gradient, x, narrow)
                if bias_gradient is not None:
                    bias_gradient[:rows_that_count] += logit_gradient.sum(0, dtype=bias_gradient.dtype)
        keep(ctx, (features, feature_gradient), (weight, weight_gradient), (bias, bias_gradient))
        ctx.mark_non_differentiable(z_total)
        return total + z_total, z_total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (*hand_over(ctx, outer[0]), *(None for _ in range(7)))
