"""The weights that training moves: this rank's pieces of them in fp32, with their gradients, known by global names.

The model computes in its own type; the masters are what the optimizer sees, what a checkpoint holds, and what the model
is set to after each step. Where the two types are the same, they are the same memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from megalith.parallel.ranks import Ranks


@dataclass
class Master:
    """This rank's piece of one parameter."""

    name: str
    """In the whole model, whatever the layout."""
    parameter: nn.Parameter
    """As the model has it: a plain tensor, or a DTensor of which the local part is this rank's."""
    value: nn.Parameter
    """fp32 (or wider); its `.grad` is this rank's piece of the summed gradient once a step's gradients are reduced."""
    counted: bool
    """Whether the global norm takes this piece from this rank: other ranks may hold the same one."""

    def logical(self, piece: Tensor) -> Tensor:
        """`piece`, of the local shape, as the piece of the whole that it is."""
        whole = self.parameter
        if not isinstance(whole, DTensor):
            return piece.detach()
        return DTensor.from_local(
            piece.detach(),
            whole.device_mesh,
            whole.placements,
            run_check=False,
            shape=whole.shape,
            stride=whole.stride(),
        )


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def region(tensor: Tensor) -> tuple[slice, ...]:
    """Which part of the whole tensor this rank holds.

    The last mesh axis cuts first: tensor parallelism, then ZeRO within what is left.
    """
    places = [slice(0, size) for size in tensor.shape]
    if isinstance(tensor, DTensor):
        mesh = tensor.device_mesh
        for axis in reversed(range(mesh.ndim)):
            placement = tensor.placements[axis]
            if isinstance(placement, (Shard, _StridedShard)):
                cut = places[placement.dim]
                places[placement.dim] = _chunk(cut, mesh.size(axis), mesh.get_local_rank(axis))
    return tuple(places)


def _chunk(cut: slice, parts: int, part: int) -> slice:
    """As torch.chunk cuts: all parts as long as the first, but for the last ones."""
    length = -(-(cut.stop - cut.start) // parts)
    first = min(cut.start + part * length, cut.stop)
    return slice(first, min(first + length, cut.stop))


def is_counted(parameter: nn.Parameter, ranks: Ranks, *, is_copy: bool) -> bool:
    """Whether this rank is the first of those that hold the same piece.

    `is_copy` says that another pipeline stage holds the parameter too, and counts it.
    """
    split: dict[str, Placement] = {}
    if isinstance(parameter, DTensor):
        names = parameter.device_mesh.mesh_dim_names or ()
        split = dict(zip(names, parameter.placements, strict=True))
    first = all(
        ranks.index(axis) == 0 or isinstance(split.get(axis), (Shard, _StridedShard))
        for axis in ("replicate", "shard", "tensor")
    )
    return first and not is_copy


def make_masters(
    parameters: list[tuple[str, nn.Parameter]], ranks: Ranks, is_copy: Callable[[str], bool]
) -> list[Master]:
    """A master for each parameter, with the model's values; in fp32, or in the parameter's own wider type."""
    masters = []
    for name, parameter in parameters:
        own = local(parameter.detach())
        wide = torch.promote_types(own.dtype, torch.float32)
        value = nn.Parameter(own if own.dtype == wide else own.to(wide))
        masters.append(Master(name, parameter, value, is_counted(parameter, ranks, is_copy=is_copy(name))))
    return masters
