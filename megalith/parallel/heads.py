"""Heads under tensor parallelism beyond an even split: shared heads of keys and values, and norms of queries and keys.

Where the ranks do not divide the heads of keys and values, each rank holds the weights of all of them and computes
those that its own queries look at; where those of its queries do not share them evenly, each query has its own copy.
The gradient of such weights is a part on each rank, as is that of a norm's weight that all heads share; they are added
up once a step. A norm over all heads at once is one over all ranks: they share one number a token.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.nn import functional as F

from megalith.kernels import linear
from megalith.topology import KeyHeads


class SharedHeads(ParallelStyle):
    """A projection to keys or values of which every rank holds the whole weights."""

    def __init__(self, heads: KeyHeads, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _place(module, device_mesh, Replicate())
        module.shared_heads = self  # type: ignore[assignment]  # no module, in one that mypy takes for any
        module.forward = lambda x: own_result(
            module, linear(x.to_local(grad_placements=[Partial()]), *own_weights(module))
        )
        return module

    def weights(self, module: nn.Module) -> tuple[Tensor, Tensor | None]:
        """The rows of the weights that this rank uses."""
        rows = slice(self.heads[0] * self.size, (self.heads[-1] + 1) * self.size)
        return _part(module.weight)[rows], None if module.bias is None else _part(module.bias)[rows]

    def copied(self, y: Tensor) -> Tensor:
        """A copy of each head for the queries that look at it, where they do not share it evenly."""
        return _copied(y, tuple(head - self.heads[0] for head in self.heads), self.size)


def own_weights(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The part of a split projection's weight and bias that this rank computes with."""
    shared = getattr(module, "shared_heads", None)
    if isinstance(shared, SharedHeads):
        return shared.weights(module)
    return _own(module.weight), None if module.bias is None else _own(module.bias)


def own_result(module: nn.Module, y: Tensor) -> Tensor:
    """The result of a split projection, from its product by `own_weights`."""
    shared = getattr(module, "shared_heads", None)
    return shared.copied(y) if isinstance(shared, SharedHeads) else y


class HeadNorm(ParallelStyle):
    """A norm of each head by itself, whose weight all heads share."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _place(module, device_mesh, Replicate())
        module.forward = self._normalise(module)
        return module

    def _normalise(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: F.rms_norm(x, x.shape[-1:], _part(module.weight), module.eps)  # type: ignore[arg-type]  # a number


class WholeNorm(ParallelStyle):
    """A norm over all heads, of which each rank has its own; `heads` are those of its keys if they are shared."""

    def __init__(self, heads: KeyHeads | None, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _place(module, device_mesh, Shard(0) if self.heads is None else Replicate())
        module.forward = self._normalise(module, device_mesh)
        return module

    def _normalise(self, module: nn.Module, mesh: DeviceMesh) -> Callable[[Tensor], Tensor]:
        def normalise(x: Tensor) -> Tensor:
            weight: DTensor = module.weight  # type: ignore[assignment]  # a DTensor
            own = weight.to_local() if self.heads is None else _copied(_part(weight), self.heads, self.size)
            found: Tensor = _RMSNorm.apply(x, own, module.eps, mesh.get_group())  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
            return found

        return normalise


class RelativeHeads(ParallelStyle):
    """Relative positions, of which each rank has those of its own heads of queries."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _place(module, device_mesh, Shard(0))
        module.own = _own  # type: ignore[assignment]  # a function, in a module that mypy takes for any
        return module


def _own(parameter: object) -> Tensor:
    assert isinstance(parameter, DTensor)
    return parameter.to_local()


def _place(module: nn.Module, mesh: DeviceMesh, placement: Replicate | Shard) -> None:
    for key, parameter in list(module.named_parameters(recurse=False)):
        module.register_parameter(key, nn.Parameter(distribute_tensor(parameter, mesh, [placement])))


def _part(weight: object) -> Tensor:
    """The whole of a replicated weight, of whose gradient this rank finds a part."""
    assert isinstance(weight, DTensor)
    return weight.to_local(grad_placements=[Partial()])


def _copied(x: Tensor, heads: KeyHeads, size: int) -> Tensor:
    """The given heads of x (…, H · D), one after the other."""
    if heads == tuple(range(x.shape[-1] // size)):
        return x
    return torch.cat([x[..., head * size : (head + 1) * size] for head in heads], dim=-1)


class _RMSNorm(torch.autograd.Function):
    """x / √(mean of x² over all ranks + ε) · weight, for x (…, own) and weight (own).

    Every head has as many copies on the ranks as any other, so that the mean over all copies is that over the heads,
    and each copy finds its own part of the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, group: dist.ProcessGroup) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(_mean_over(wide.square().mean(-1, keepdim=True), group) + epsilon)  # (…, 1)
        ctx.save_for_backward(x, weight, scale)
        ctx.group = group
        return (wide * scale * weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normed = x.to(scale.dtype) * scale
        of_normed = outer[0] * weight  # the gradient of `normed`
        of_weight = (outer[0] * normed).flatten(0, -2).sum(0).to(weight.dtype)
        shared = _mean_over((of_normed * normed).mean(-1, keepdim=True), ctx.group)
        of_x = (of_normed - normed * shared) * scale
        return of_x.to(x.dtype), of_weight, None, None


def _mean_over(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    dist.all_reduce(x, group=group)
    return x.div_(dist.get_world_size(group))
