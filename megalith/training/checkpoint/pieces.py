"""The part of a logical tensor that a rank holds, and DCP's plans over such parts.

DCP's own planners ask DTensor for the offsets. For a dimension that both tensor parallelism and FSDP cut, its answer is
wrong where the cuts do not come out even (50,257 rows over tensor 2 × data 4, say), so the offsets are those of
`parallel.masters.block`, and a part that would not be one block is refused.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.tensor import DTensor

from megalith.errors import UnsupportedError
from megalith.parallel.master_weights import block


@dataclass(frozen=True)
class Piece:
    """A block of a logical tensor."""

    tensor: Tensor
    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    """The shape of the logical tensor."""

    @property
    def chunk(self) -> ChunkStorageMetadata:
        return ChunkStorageMetadata(torch.Size(self.offsets), self.tensor.shape)

    @property
    def says_something(self) -> bool:
        """False for the empty part of a tensor that has elements elsewhere."""
        return self.tensor.numel() > 0 or prod(self.shape) == 0


def pieces(model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> dict[str, Piece]:
    """This rank's part of every tensor, by the names that the files use."""
    named = {f"model.{name}": tensor for name, tensor in model.items()}
    named |= {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}
    return {name: piece(name, tensor) for name, tensor in named.items()}


def piece(name: str, tensor: Tensor) -> Piece:
    """This rank's part of a tensor, in the same memory. Raises UnsupportedError where that is not one block."""
    shape = tuple(tensor.shape)
    if not isinstance(tensor, DTensor):
        return Piece(tensor.detach(), (0,) * len(shape), shape)
    local = tensor.to_local().detach()
    coordinate = tensor.device_mesh.get_coordinate()
    found = block(shape, tensor.device_mesh.shape, coordinate, tensor.placements) if coordinate else None
    if found is None or found[1] != tuple(local.shape):
        raise UnsupportedError(f"a tensor that is placed as {tensor.placements} cannot be saved.", where=name)
    return Piece(local, found[0], shape)


class SavePlanner(DefaultSavePlanner):
    """Plans the saving of pieces; what several ranks hold is written by the one with the least to write."""

    state_dict: dict[str, Piece]

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan(
            [
                WriteItem(
                    MetadataIndex(name, each.offsets),
                    WriteItemType.SHARD,
                    tensor_data=TensorWriteData(
                        each.chunk, TensorProperties(each.tensor.dtype), torch.Size(each.shape)
                    ),
                )
                for name, each in self.state_dict.items()
                if each.says_something
            ]
        )
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self.state_dict[write_item.index.fqn].tensor


class PieceLoadPlanner(LoadPlanner):
    """Plans the filling of pieces from whatever pieces were saved; tensors only, never an object."""

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.pieces: dict[str, Piece] = state_dict
        self.metadata = metadata

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None  # our reader gives it
        items: list[ReadItem] = []
        for name, each in self.pieces.items():
            saved = self.metadata.state_dict_metadata[name]
            assert isinstance(saved, TensorStorageMetadata)  # our reader knows no other
            found = create_read_items_for_chunk_list(name, saved, [each.chunk])
            if sum(prod(item.lengths) for item in found) != each.tensor.numel():
                raise ValueError(f"{name} is not there in full")
            items += found
        return LoadPlan(items)

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        return central_plan

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        raise TypeError("a checkpoint holds tensors only")

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        """The part of this rank's piece that the item fills."""
        target = self.pieces[read_item.dest_index.fqn].tensor
        for dimension, (start, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths, strict=True)):
            target = target.narrow(dimension, start, length)
        return target

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """It was filled in place."""
