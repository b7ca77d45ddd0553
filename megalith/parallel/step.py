"""The optimizer step: zero, forward and backward, reduce, norm, clip, AdamW, and the masters copied into the model.

Training, the measuring of this machine and the dry run take this very step, so that what is timed and dry-run is what
trains. Reading samples, the learning rate's schedule and the history are training's own.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from megalith.parallel.context import MicroBatch
from megalith.parallel.distributed_model import DistributedModel
from megalith.precision import DTYPE_NAMES

Phase = Literal["forward_backward", "reduce", "norm", "optimizer", "publish"]
EnterPhase = Callable[[Phase], AbstractContextManager[object]]


class Updates(Protocol):
    """An optimizer over the masters."""

    def update(self, learning_rate: float) -> None:
        """Move the masters by their gradients."""


@dataclass(frozen=True)
class Outcome:
    """One step, the same on every rank."""

    losses: list[float]
    """Mean nats of each kind of loss over the whole batch."""
    gradient_norm: float
    """Global, before clipping."""
    finite: bool
    """Whether loss and gradient were finite; if not, nothing has moved."""
    taken: bool
    """Whether the weights have moved."""
    own_sum: Tensor | None = None
    """Sum of this rank's own losses and gradients before any reduction, finite only if they are; None of a process that
    is alone."""
    asked: bool = False
    """Whether any rank's `asks` said yes."""


def take_step(
    model: DistributedModel,
    optimizer: Updates,
    batches: Sequence[MicroBatch],
    counted: Sequence[float],
    dropout_seeds: Sequence[int],
    *,
    learning_rate: float,
    clip_norm: float | None,
    loss_scale: float = 1.0,
    phase: EnterPhase = nullcontext,
    accepts: Callable[[float], bool] | None = None,
    asks: Callable[[], bool] | None = None,
) -> Outcome:
    """One optimizer step over this data-parallel rank's micro-batches; every rank must call it.

    `counted` is the number of targets of each kind of loss in the whole batch, over which losses and gradients are
    means; `dropout_seeds` has one number a micro-batch. The loss is multiplied by `loss_scale` and the gradients
    divided by it (fp16). `phase` is entered with the name of each part of the step. A finite loss that is not accepted
    moves nothing. `asks` says whether this rank wants something of all (to stop): every rank learns of it with the norm
    and the losses, the only numbers of a step for which the host waits.
    """
    with phase("forward_backward"):
        model.gradients.zero()
        sums = model.forward_backward(batches, loss_weights(counted, loss_scale), dropout_seeds)
    own_sum = model.gradients.own_sum() + sums.sum() if model.ranks.count > 1 else None
    with phase("reduce"):
        model.reduce_gradients()
    with phase("norm"):
        scaled_norm, (*summed, asked) = model.agree(sums, float(asks is not None and asks()))
    losses = [nats / count if count else 0.0 for nats, count in zip(summed, counted, strict=True)]
    loss, norm = sum(losses), scaled_norm / loss_scale
    finite = math.isfinite(loss) and math.isfinite(norm)
    taken = finite and (accepts is None or accepts(loss))
    if taken:
        _move(model, optimizer, clip_factor(norm, clip_norm) / loss_scale, learning_rate, phase)
    return Outcome(losses, norm, finite, taken, own_sum, asked > 0)


def update(model: DistributedModel, optimizer: Updates, *, learning_rate: float, clip_norm: float | None) -> None:
    """The end of a step, once the gradients are reduced: clip them by their global norm and move the masters.

    Nothing is moved where the norm is not finite.
    """
    norm = model.gradient_norm()
    if math.isfinite(norm):
        _move(model, optimizer, clip_factor(norm, clip_norm), learning_rate, nullcontext)


def _move(model: DistributedModel, optimizer: Updates, factor: float, learning_rate: float, phase: EnterPhase) -> None:
    """Scale the gradients, move the masters and set the model to them."""
    with phase("norm"):
        if factor != 1.0:
            model.gradients.scale(factor)
    with phase("optimizer"):
        optimizer.update(learning_rate)
    with phase("publish"):
        model.copy_master_weights()


def clip_factor(norm: float, maximum: float | None) -> float:
    """Factor that scales gradients of this global norm down to `maximum`, as in torch's clip_grad_norm_."""
    return min(1.0, maximum / (norm + 1e-6)) if maximum is not None and math.isfinite(norm) else 1.0


def loss_weights(counted: Sequence[float], scale: float = 1.0) -> list[float]:
    """Weight of each kind of loss that makes it a mean over the whole batch, times `scale`."""
    return [scale / count if count else 0.0 for count in counted]


def compute_dtype(precision: str) -> torch.dtype:
    """The dtype of a layer's products: "auto" is bf16; fp32 is torch's default dtype, so that tests may widen it."""
    if precision == "fp32":
        return torch.get_default_dtype()
    dtype: torch.dtype = getattr(torch, DTYPE_NAMES["fp16" if precision == "fp16" else "bf16"])
    return dtype
