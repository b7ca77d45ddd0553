"""Gradients of a step: added up in fp32 over the micro-batches, and once a step over the ranks.

It is a sum and no mean: each loss is already divided by what the whole batch counts. Without ZeRO all gradients lie end
to end in one tensor, which is all-reduced after the last micro-batch. (torch's DistributedDataParallel orders its
buckets anew after the first step, so that a resumed run adds in another order than the run that it resumes; one tensor
in one order keeps the bits. What DDP would overlap with the backward pass does not pay where the ranks are cores of
one machine.) With ZeRO it is FSDP2 that shards weights, gradients and optimizer state.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from megalith.model import Transformer
from megalith.parallel.master_weights import Master, local
from megalith.parallel.mesh import Mesh


class Gradients(Protocol):
    """The gradients of all masters over a step."""

    def zero(self) -> None:
        """Begin a step."""

    def before_micro_batch(self, *, last: bool) -> None:
        """Begin a forward pass; `last` when its backward pass is the step's last."""

    def reduce(self) -> None:
        """Add up over the ranks; every master's `.value.grad` is whole after this."""

    def scale(self, factor: float) -> None:
        """Multiply all of them."""

    def own_sum(self) -> Tensor:
        """Sum of this rank's own before `reduce`, finite only if they are; 0 where other ranks' are in them."""


class FlatGradients:
    """Without ZeRO: one tensor, of which each master's gradient is a view."""

    def __init__(self, masters: Sequence[Master], ranks: Mesh) -> None:
        self._masters, self._ranks = masters, ranks
        first = masters[0].value
        self.flat = torch.zeros(sum(m.value.numel() for m in masters), dtype=first.dtype, device=first.device)
        places = torch.split(self.flat, [m.value.numel() for m in masters])
        self._partial: dict[str, Tensor] = {}
        for master, place in zip(masters, places, strict=True):
            master.value.grad = place.view_as(master.value)
            master.parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                self._take(master.name, master.value.grad)
            )

    def zero(self) -> None:
        self.flat.zero_()

    def before_micro_batch(self, *, last: bool) -> None:
        """Nothing: what has been added up waits for `reduce`."""

    def reduce(self) -> None:
        if self._partial:  # of what ranks hold alike: each has seen its own tokens (norms) or its own heads alone
            pieces = list(self._partial.values())
            together = torch.cat([piece.flatten() for piece in pieces])
            dist.all_reduce(together, group=self._ranks.submesh("tensor").get_group())
            for piece, whole in zip(pieces, torch.split(together, [each.numel() for each in pieces]), strict=True):
                piece.copy_(whole.view_as(piece))
        if self._ranks.data_size > 1:
            dist.all_reduce(self.flat, group=self._ranks.submesh("replicate").get_group())

    def scale(self, factor: float) -> None:
        self.flat.mul_(factor)

    def own_sum(self) -> Tensor:
        return self.flat.sum()

    def _take(self, name: str, total: Tensor):  # type: ignore[no-untyped-def]  # torch leaves the hook's type open
        """A hook that adds a parameter's new gradient to its total, and drops it."""

        def take(parameter: nn.Parameter) -> None:
            gradient = parameter.grad
            assert gradient is not None
            if isinstance(gradient, DTensor):
                if any(placement.is_partial() for placement in gradient.placements):
                    self._partial[name] = total
                else:
                    assert gradient.placements == parameter.placements  # type: ignore[attr-defined]  # a DTensor too
            total.add_(local(gradient))
            parameter.grad = None

        return take


class ShardedGradients:
    """With ZeRO: FSDP2 reduces them as it goes."""

    def __init__(self, stages: Sequence[nn.Module], masters: Sequence[Master], zero: int) -> None:
        self._stages, self._masters, self._zero = stages, masters, zero

    def zero(self) -> None:
        for master in self._masters:
            master.parameter.grad = None
            master.value.grad = None

    def before_micro_batch(self, *, last: bool) -> None:
        """ZeRO-1 reduces once, after the last; ZeRO-2 and 3 after each, so as to hold no whole gradient for long."""
        for stage in self._stages:
            assert isinstance(stage, FSDPModule)
            stage.set_requires_gradient_sync(last or self._zero >= 2)
            stage.set_reshard_after_backward(last or self._zero >= 3)
            stage.set_is_last_backward(last)

    def reduce(self) -> None:
        for master in self._masters:
            gradient = master.parameter.grad
            master.value.grad = torch.zeros_like(master.value) if gradient is None else local(gradient)

    def scale(self, factor: float) -> None:
        torch._foreach_mul_([m.value.grad for m in self._masters if m.value.grad is not None], factor)

    def own_sum(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=self._masters[0].value.device)  # FSDP2 has reduced them


def shard(stage: Transformer, ranks: Mesh, zero: int, dtype: torch.dtype) -> None:
    """Wrap a stage with FSDP2: layer by layer, then what is left (the embeddings, which compute in fp32)."""
    mesh = ranks.submesh("replicate", "shard") if ranks.size("replicate") > 1 else ranks.submesh("shard")
    wide = torch.promote_types(dtype, torch.float32)
    narrow = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=wide, cast_forward_inputs=False)
    inner = [
        *stage.numbered_layers.values(),
        *(each for name in ("final_norm", "heads") if (each := getattr(stage, name, None))),
    ]
    for module in inner:
        fully_shard(module, mesh=mesh, mp_policy=narrow, reshard_after_forward=zero == 3)
    whole = MixedPrecisionPolicy(reduce_dtype=wide, cast_forward_inputs=False)
    fully_shard(stage, mesh=mesh, mp_policy=whole, reshard_after_forward=zero == 3)
    for module in stage.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


@contextmanager
def gathered(stages: Sequence[nn.Module], zero: int) -> Iterator[None]:
    """Within the block this rank holds the whole weights of its stages, so that forward passes need no other rank's.

    Only what FSDP2 has sharded is gathered, and afterwards it is sharded as before.
    """
    sharded = [module for stage in stages for module in stage.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
            module.set_reshard_after_forward(zero == 3, recurse=False)


def squared_norm(masters: Sequence[Master]) -> float:
    """Σ g² over the pieces that this rank counts; not finite where any piece that it holds is not."""
    held = [(m.value.grad, float(m.counted)) for m in masters if m.value.grad is not None and m.value.numel()]
    if not held:
        return 0.0
    norms = torch.stack(torch._foreach_norm([gradient for gradient, _ in held])).double()
    counts = torch.tensor([counted for _, counted in held], dtype=norms.dtype, device=norms.device)
    return float((norms * norms * counts).sum())  # ∞ · 0 is no number
