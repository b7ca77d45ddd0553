"""Gradients of a step: added up in fp32 over the micro-batches, and once a step over the ranks.

It is a sum and no mean: each loss is already divided by what the whole batch counts. Without ZeRO all gradients lie end
to end in one tensor, which is cut into buckets of one size. The backward pass of the last micro-batch finds them from
the end on, and a bucket that is whole is all-reduced while the pass goes on: every rank sends the same buckets in the
same order. (torch's DistributedDataParallel orders its buckets anew after the first step, so that a resumed run adds in
another order than the run that it resumes.) With ZeRO it is FSDP2 that shards weights, gradients and optimizer state.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from megalith.arithmetic import GRADIENT_BUCKET
from megalith.model import Transformer
from megalith.parallel.master_weights import Master, local
from megalith.parallel.mesh import Mesh


class Gradients(Protocol):
    """The gradients of all masters over a step."""

    def zero(self) -> None:
        """Begin a step."""

    def before_micro_batch(self, *, last: bool, passes: int = 1) -> None:
        """Begin a forward pass; `last` when its backward pass is the step's last, or is among the last `passes`.

        With 0 passes it is not known how many gradients each parameter is still given.
        """

    def reduce(self) -> None:
        """Add up over the ranks; every master's `.value.grad` is whole after this."""

    def scale(self, factor: float) -> None:
        """Multiply all of them."""

    def own_sum(self) -> Tensor:
        """Sum of this rank's own before `reduce`, finite only if they are; 0 where other ranks' are in them."""


class FlatGradients:
    """Without ZeRO: one tensor, of which each master's gradient is a view."""

    def __init__(self, masters: Sequence[Master], ranks: Mesh) -> None:
        self._ranks = ranks
        first, sizes = masters[0].value, [m.value.numel() for m in masters]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        self._buckets = _Buckets(self.flat, sizes, ranks)
        self._partial: dict[str, Tensor] = {}
        for number, (master, place) in enumerate(zip(masters, torch.split(self.flat, sizes), strict=True)):
            master.value.grad = place.view_as(master.value)
            master.parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                self._take(number, master.name, master.value.grad)
            )

    def zero(self) -> None:
        self.flat.zero_()
        self._buckets.begin()

    def before_micro_batch(self, *, last: bool, passes: int = 1) -> None:
        if last:
            self._buckets.expect(passes)

    def reduce(self) -> None:
        self._buckets.finish()
        if self._partial:  # of what ranks hold alike: each has seen its own tokens (norms) or its own heads alone
            pieces = list(self._partial.values())
            together = torch.cat([piece.flatten() for piece in pieces])
            dist.all_reduce(together, group=self._ranks.submesh("tensor").get_group())
            for piece, whole in zip(pieces, torch.split(together, [each.numel() for each in pieces]), strict=True):
                piece.copy_(whole.view_as(piece))

    def scale(self, factor: float) -> None:
        self.flat.mul_(factor)

    def own_sum(self) -> Tensor:
        return self._buckets.own_sum()

    def _take(self, number: int, name: str, total: Tensor):  # type: ignore[no-untyped-def]  # torch leaves the hook's type open
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
            self._buckets.taken(number)

        return take


class _Buckets:
    """Equal cuts of the gradients, the last first, each all-reduced over the replicas when nothing more comes to it."""

    def __init__(self, flat: Tensor, sizes: Sequence[int], ranks: Mesh) -> None:
        """`sizes` are those of the parameters, end to end."""
        self._ranks = ranks
        self._work: list[dist.Work] = []
        self._cuts = list(reversed(torch.split(flat, GRADIENT_BUCKET)))
        ends = list(accumulate(sizes))
        last = len(self._cuts) - 1
        self._of = [  # the buckets of each parameter
            range(last - (end - 1) // GRADIENT_BUCKET, last - (end - size) // GRADIENT_BUCKET + 1) if size else range(0)
            for end, size in zip(ends, sizes, strict=True)
        ]
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        for work in self._work:  # of a step that was not taken to its end
            work.wait()
        self._sent = self._passes = 0
        self._own = self._cuts[0].new_zeros(()) if self._cuts else torch.zeros(())
        self._work = []
        self._seen = [0] * len(self._of)
        self._open = Counter(bucket for buckets in self._of for bucket in buckets)

    def expect(self, passes: int) -> None:
        """Each parameter is given so many gradients from here on, its last ones; 0: that is not known."""
        self._passes = passes if self._ranks.gradient_ranks > 1 else 0

    def taken(self, number: int) -> None:
        """A parameter has been given a gradient."""
        if not self._passes:
            return
        self._seen[number] += 1
        if self._seen[number] > self._passes:
            raise RuntimeError(f"parameter {number} was given a gradient after its last: its sum would miss it.")
        if self._seen[number] == self._passes:
            self._open.subtract(self._of[number])
            while self._sent < len(self._cuts) and not self._open[self._sent]:
                self._send()

    def own_sum(self) -> Tensor:
        """Sum of what this rank has found by itself."""
        return torch.stack([self._own, *(cut.sum() for cut in self._cuts[self._sent :])]).sum()

    def finish(self) -> None:
        """Send what is left, and wait for all."""
        if self._ranks.gradient_ranks == 1:
            return
        while self._sent < len(self._cuts):
            self._send()
        for work in self._work:
            work.wait()
        self._work.clear()
        self._passes = 0

    def _send(self) -> None:
        cut = self._cuts[self._sent]
        self._sent += 1
        self._own += cut.sum()
        work = dist.all_reduce(cut, group=self._ranks.submesh("replicate").get_group(), async_op=True)
        assert work is not None
        self._work.append(work)


class ShardedGradients:
    """With ZeRO: FSDP2 reduces them as it goes."""

    def __init__(self, stages: Sequence[nn.Module], masters: Sequence[Master], zero: int) -> None:
        self._stages, self._masters, self._zero = stages, masters, zero

    def zero(self) -> None:
        for master in self._masters:
            master.parameter.grad = None
            master.value.grad = None

    def before_micro_batch(self, *, last: bool, passes: int = 1) -> None:
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
    """Wrap a stage with FSDP2: layer by layer, then what is left: the embeddings.

    All is gathered in `dtype` and reduced in fp32. The embeddings are gathered once a micro-batch: the loss, which has
    their rows last, ends the forward pass.
    """
    mesh = ranks.submesh("replicate", "shard") if ranks.size("replicate") > 1 else ranks.submesh("shard")
    wide = torch.promote_types(dtype, torch.float32)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=wide, cast_forward_inputs=False)
    inner = [
        *stage.numbered_layers.values(),
        *(each for name in ("final_norm", "heads") if (each := getattr(stage, name, None))),
    ]
    for module in (*inner, stage):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=_reshards(module, zero))
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
            module.set_reshard_after_forward(_reshards(module, zero), recurse=False)


def _reshards(module: nn.Module, zero: int) -> bool:
    """Whether a module gives its gathered weights back between its forward and its backward pass."""
    return zero == 3 and not isinstance(module, Transformer)


def squared_norm(masters: Sequence[Master], counted: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Σ g² over the pieces that this rank counts, in fp64; not finite where any piece that it holds is not.

    The second is to be given again at the next step: which of them count (1, or 0), where the gradients are.
    """
    held = [(m.value.grad, float(m.counted)) for m in masters if m.value.grad is not None and m.value.numel()]
    if not held:
        return torch.zeros((), dtype=torch.float64, device=masters[0].value.device), None
    norms = torch.stack(torch._foreach_norm([gradient for gradient, _ in held])).double()
    if counted is None or len(counted) != len(held):
        counted = torch.tensor([each for _, each in held], dtype=norms.dtype, device=norms.device)
    return (norms * norms * counted).sum(), counted  # ∞ · 0 is not a number
