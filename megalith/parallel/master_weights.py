"""The weights that training moves: this rank's pieces of them in fp32, with their gradients, known by global names.

The model computes in its own type; the masters are what the optimizer sees, what a checkpoint holds, and what the model
is set to after each step. Where the two types are the same, they are the same memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from megalith.errors import UnsupportedError
from megalith.parallel.mesh import Mesh


@dataclass
class Master:
    """This rank's piece of one parameter."""

    name: str
    """The parameter's name in the whole model, whatever the layout."""
    parameter: nn.Parameter
    """As the model has it: a plain tensor, or a DTensor of which the local part is this rank's."""
    value: nn.Parameter
    """fp32 (or wider); its `.grad` is this rank's piece of the summed gradient once a step's gradients are reduced."""
    counted: bool
    """Whether the global norm takes this piece from this rank: other ranks may hold the same one."""

    def as_dtensor(self, piece: Tensor) -> Tensor:
        """Wrap a local tensor as a DTensor placed like the parameter; a plain parameter's stays plain."""
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
    """This rank's part of a tensor; a plain tensor is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def region(tensor: Tensor) -> tuple[slice, ...]:
    """The part of the whole tensor that this rank holds. Raises UnsupportedError where that is not one block."""
    if not isinstance(tensor, DTensor):
        return tuple(slice(0, size) for size in tensor.shape)
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    found = block(tensor.shape, mesh.shape, coordinate, tensor.placements) if coordinate else None
    if found is None:
        raise UnsupportedError(f"a tensor that is placed as {tensor.placements} is not one block on a rank.")
    return tuple(slice(start, start + size) for start, size in zip(*found, strict=True))


def block(
    shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int], placements: Sequence[Placement]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Offsets and sizes of the block that lies at a mesh coordinate; None where it is not one block.

    Mesh axes cut in their order, but a strided one (FSDP over tensor parallelism) cuts what the later ones have left.
    """
    offsets, sizes = [0] * len(shape), list(shape)
    plain = [axis for axis, each in enumerate(placements) if each.is_shard() and not _stride(each)]
    strided = [axis for axis, each in enumerate(placements) if _stride(each)]
    if len(plain) + len(strided) + sum(each.is_replicate() for each in placements) < len(placements):
        return None
    for axis in strided:
        cut_later = [
            mesh[i] for i in range(axis + 1, len(mesh)) if _dimension(placements[i]) == _dimension(placements[axis])
        ]
        if _stride(placements[axis]) != prod(cut_later):
            return None
    for axis in plain + strided[::-1]:
        dimension = _dimension(placements[axis])
        width = -(-sizes[dimension] // mesh[axis])  # as torch.chunk cuts
        start = min(coordinate[axis] * width, sizes[dimension])
        offsets[dimension] += start
        sizes[dimension] = min(width, sizes[dimension] - start)
    return tuple(offsets), tuple(sizes)


def _stride(placement: Placement) -> int:
    """The split factor of a strided shard, whose class torch does not export; 0 of any other placement."""
    return int(getattr(placement, "split_factor", 0))


def _dimension(placement: Placement) -> int:
    """The dimension that a placement cuts; −1 where it cuts none."""
    return int(getattr(placement, "dim", -1))


def is_counted(parameter: nn.Parameter, ranks: Mesh, *, is_copy: bool) -> bool:
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
    parameters: list[tuple[str, nn.Parameter]], ranks: Mesh, is_copy: Callable[[str], bool]
) -> list[Master]:
    """A master for each parameter, with the model's values; in fp32, or in the parameter's own wider type."""
    masters = []
    for name, parameter in parameters:
        own = local(parameter.detach())
        wide = torch.promote_types(own.dtype, torch.float32)
        value = nn.Parameter(own if own.dtype == wide else own.to(wide))
        masters.append(Master(name, parameter, value, is_counted(parameter, ranks, is_copy=is_copy(name))))
    return masters
