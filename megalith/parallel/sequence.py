"""Products under sequence parallelism (2205.05198 §4.2.2), of whose input each rank keeps its own tokens alone.

The input is gathered along the sequence, once for all products that share it, and not kept: the backward pass gathers
it again while it finds the input's gradient, and sums that over the ranks while it finds those of the weights. A layer
that is computed again as a whole keeps the gathered input, which then lives for its own backward pass alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional as F

from megalith.parallel.heads import own_result, own_weights


class GatheredProducts:
    """In the place of `megalith.model.products`: x (B, T / ranks, E) to one (B, T, F / ranks) of each layer."""

    def __init__(self, mesh: DeviceMesh, *, keeps_whole: bool) -> None:
        """`mesh` has the tensor-parallel ranks; `keeps_whole` says that the gathered input is kept."""
        self._ranks, self._group = mesh.size(), mesh.get_group().group_name
        self._keeps_whole = keeps_whole

    def __call__(self, x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
        weights, biases = zip(*(own_weights(layer) for layer in layers), strict=True)
        given = [each for each in biases if each is not None]
        found: tuple[Tensor, ...] = _Products.apply(
            x, len(layers), self._ranks, self._group, self._keeps_whole, *weights, *given
        )  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
        return tuple(own_result(layer, y) for layer, y in zip(layers, found, strict=True))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, count: int, ranks: int, group: str, keeps_whole: bool, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        weights = parameters[:count]
        biases: Sequence[Tensor | None] = parameters[count:] or (None,) * count
        whole = _in_order(_wait(_gather(x, ranks, group)), len(x), ranks)  # (B, T, E)
        ctx.save_for_backward(whole if keeps_whole else x, *weights)
        ctx.ranks, ctx.group, ctx.keeps_whole, ctx.has_biases = ranks, group, keeps_whole, len(parameters) > count
        return tuple(F.linear(whole, weight, bias) for weight, bias in zip(weights, biases, strict=True))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        samples, wants_input, *wants = len(x), *_wanted(ctx)
        gradients = [each.flatten(0, 1) for each in outer]  # (B · T, F)
        rows = x.flatten(0, 1)
        if any(wants[: len(weights)]) and not ctx.keeps_whole:
            rows = _gather(_after(gradients[0], rows), ctx.ranks, ctx.group)
        of_input = _summed(gradients, weights, samples, ctx) if wants_input else None
        of_weights: list[Tensor | None] = [None] * len(weights)
        if any(wants[: len(weights)]):
            if not ctx.keeps_whole:
                rows = _in_order(_wait(rows).view(-1, *x.shape[1:]), samples, ctx.ranks).flatten(0, 1)
            of_weights = [g.T @ rows if wanted else None for g, wanted in zip(gradients, wants, strict=False)]
        of_biases = [g.sum(0) for g in gradients] if ctx.has_biases else []
        if of_input is not None:
            of_input = _wait(of_input).view(samples, -1, of_input.shape[1])
        return of_input, None, None, None, None, *of_weights, *of_biases


def _summed(gradients: Sequence[Tensor], weights: Sequence[Tensor], samples: int, ctx: Any) -> Tensor:
    """Begin to sum the gradient of the gathered input over the ranks, of which each gets its own tokens' rows."""
    total = gradients[0] @ weights[0]
    for g, weight in zip(gradients[1:], weights[1:], strict=True):
        total = total.addmm_(g, weight)  # (B · T, E)
    by_rank = total.view(samples, ctx.ranks, -1, total.shape[1]).transpose(0, 1).contiguous()  # (ranks, B, T / t, E)
    del total
    found: Tensor = torch.ops._c10d_functional.reduce_scatter_tensor(by_rank.flatten(0, 2), "sum", ctx.ranks, ctx.group)
    return found


def _gather(x: Tensor, ranks: int, group: str) -> Tensor:
    """Begin to gather along the first dimension."""
    found: Tensor = torch.ops._c10d_functional.all_gather_into_tensor(x.contiguous(), ranks, group)
    return found


def _after(gradient: Tensor, rows: Tensor) -> Tensor:
    """The rows, with none of the gradient's: a compiler would else gather them in the forward pass, and keep that."""
    if not torch.compiler.is_compiling():
        return rows
    return torch.cat([rows, gradient.flatten()[:0].view(0, rows.shape[1])])


def _wait(x: Tensor) -> Tensor:
    done: Tensor = torch.ops._c10d_functional.wait_tensor(x)
    return done


def _in_order(gathered: Tensor, samples: int, ranks: int) -> Tensor:
    """(ranks · B, T / ranks, E) to (B, T, E): of one sample a view."""
    return gathered.view(ranks, samples, *gathered.shape[1:]).transpose(0, 1).flatten(1, 2)


def _wanted(ctx: Any) -> list[bool]:
    """Whether this backward pass is to find the gradient of x, and of each parameter.

    A schedule that splits the backward pass asks for some of them at a time.
    """
    if torch.compiler.is_compiling():
        needed = ctx.needs_input_grad
        return [needed[0], *needed[5:]]
    return [each is not None and torch._C._will_engine_execute_node(each) for each, _ in ctx.next_functions]
