"""Heads under tensor parallelism beyond an even split: shared heads of keys and values, and norms of queries and keys.

Where the ranks do not divide the heads of keys and values, each rank holds the weights of all of them and computes
those that its own queries look at; where those of its queries do not share them evenly, each query has its own copy.
The gradient of such weights is a part on each rank, as is that of a norm's weight that all heads share; they are added
up once a step. A norm over all heads at once is one over all ranks: they share one number a token.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.nn import functional as F

from megalith.kernels import linear
from megalith.recipe import ModelConfig

KeyHeads = tuple[int, ...]
"""Numbers of the heads of keys that a rank's queries look at, in order: one for all of them, or one for each."""


def key_heads(config: ModelConfig, ranks: int, rank: int) -> KeyHeads | None:
    """The heads of keys and values of a rank; None where they are split, so that each rank has its own."""
    if config.kv_heads % ranks == 0:
        return None
    own, group = config.heads // ranks, config.heads // config.kv_heads
    if group % own == 0:
        return (rank * own // group,)
    return tuple(head // group for head in range(rank * own, (rank + 1) * own))


class SharedHeads(ParallelStyle):
    """A projection to keys or values of which every rank holds the whole weights."""

    def __init__(self, heads: KeyHeads, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _place(module, device_mesh, Replicate())
        module.forward = self._project(module)
        return module

    def _project(self, module: nn.Module) -> Callable[[DTensor], Tensor]:
        rows = slice(self.heads[0] * self.size, (self.heads[-1] + 1) * self.size)

        def project(x: DTensor) -> Tensor:
            bias = None if module.bias is None else _part(module.bias)[rows]
            found = linear(x.to_local(grad_placements=[Partial()]), _part(module.weight)[rows], bias)
            return _copied(found, tuple(head - self.heads[0] for head in self.heads), self.size)

        return project


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
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            # every head of keys has as many copies as any other, so that the mean of all copies is that of the heads
            mean = _sum_over(wide.square().mean(-1, keepdim=True), mesh.get_group()) / mesh.size()
            return (wide * torch.rsqrt(mean + module.eps) * own).to(x.dtype)  # type: ignore[operator]  # a number

        return normalise


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


def _sum_over(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    summed: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return summed


class _Sum(torch.autograd.Function):
    """A sum over ranks that all go on with; each finds a part of its gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]  # a context takes what it is given
        summed = x.clone()
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *outer: Tensor) -> tuple[Tensor, None]:
        summed = outer[0].clone()
        dist.all_reduce(summed, group=ctx.group)  # type: ignore[attr-defined]  # set in forward
        return summed, None
