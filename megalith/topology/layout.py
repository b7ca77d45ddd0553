"""The rank map: which place on the three axes each rank has, and which ranks work together on an axis.

Tensor is innermost, then data, and pipeline outermost (MT-NLG §2): the ranks of a tensor group, which speak most often,
are neighbours and fit into a node; those of a data group come next; the stages of a pipeline, which speak only to the
one before and the one after, are farthest apart. The rank at (p, d, t) is (p · data + d) · tensor + t.

Which rank lies on which machine is said in `clusters`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from megalith.errors import RecipeError
from megalith.recipe.machine import ParallelConfig

Axis = Literal["pipeline", "data", "tensor"]
AXES: tuple[Axis, ...] = ("pipeline", "data", "tensor")
"""From the outermost to the innermost."""
MeshAxis = Literal["pipeline", "replicate", "shard", "tensor"]
MESH_AXES: tuple[MeshAxis, ...] = ("pipeline", "replicate", "shard", "tensor")
"""The mesh that training builds, with the data axis in two: ZeRO shards over `shard`, and `replicate` such groups hold
the same."""


class Coordinates(NamedTuple):
    """The place of a rank on each axis, from 0."""

    pipeline: int
    data: int
    tensor: int


@dataclass(frozen=True)
class Layout:
    """The sizes of the three axes."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def world(self) -> int:
        """Ranks in all."""
        return self.pipeline * self.data * self.tensor

    @property
    def replica(self) -> int:
        """Ranks that hold one copy of the model."""
        return self.pipeline * self.tensor

    def size(self, axis: Axis) -> int:
        """Ranks along `axis`."""
        return {"pipeline": self.pipeline, "data": self.data, "tensor": self.tensor}[axis]

    def rank(self, pipeline: int, data: int, tensor: int) -> int:
        """The rank at these coordinates."""
        return (pipeline * self.data + data) * self.tensor + tensor

    def coordinates(self, rank: int) -> Coordinates:
        """The coordinates of `rank`."""
        rest, tensor = divmod(rank, self.tensor)
        pipeline, data = divmod(rest, self.data)
        return Coordinates(pipeline, data, tensor)

    def group(self, axis: Axis, rank: int) -> tuple[int, ...]:
        """The ranks that differ from `rank` on `axis` alone, itself among them, in the order of the axis."""
        place = self.coordinates(rank)
        return tuple(self.rank(**{**place._asdict(), axis: index}) for index in range(self.size(axis)))

    def groups(self, axis: Axis) -> tuple[tuple[int, ...], ...]:
        """Every group of `axis`, by its first rank: each rank is in exactly one."""
        return tuple(self.group(axis, rank) for rank in range(self.world) if self.coordinates(rank)[_place(axis)] == 0)

    def shard_groups(self, rank: int, shard: int) -> tuple[tuple[int, ...], ...]:
        """The data group of `rank` cut into groups of `shard` neighbours, each of which holds the weights once."""
        whole = self.group("data", rank)
        return tuple(whole[first : first + shard] for first in range(0, len(whole), shard))

    def replica_groups(self, rank: int, shard: int) -> tuple[tuple[int, ...], ...]:
        """The ranks of the same data group that hold the same part of the weights, one of each shard group."""
        whole = self.group("data", rank)
        return tuple(whole[first::shard] for first in range(shard))

    def ends(self, rank: int) -> tuple[int, int]:
        """The ranks of the first and of the last stage of `rank`'s pipeline: both hold tied embeddings."""
        pipeline = self.group("pipeline", rank)
        return pipeline[0], pipeline[-1]


def shard_ranks(zero: int, zero_shard: int | None, data: int) -> int:
    """Ranks of the data axis over which ZeRO shards; 1 without ZeRO."""
    return (zero_shard or data) if zero and data > 1 else 1


def mesh_shape(layout: Layout, shard: int) -> tuple[int, int, int, int]:
    """Sizes of the mesh over MESH_AXES where ZeRO shards over `shard` neighbours of the data axis."""
    return layout.pipeline, layout.data // shard, shard, layout.tensor


def layout_of(parallel: ParallelConfig) -> Layout:
    """The layout that a recipe gives. Raises RecipeError where it leaves an axis open."""
    given = {axis: getattr(parallel, axis) for axis in ("tensor", "pipeline", "data")}
    missing = [axis for axis, size in given.items() if size is None]
    if missing:
        raise RecipeError(
            f"the layout is left open ({', '.join(missing)}).",
            where="parallel",
            mend=f"Set {' '.join(f'parallel.{axis}=N' for axis in missing)}, or name the recipe.json of a plan.",
        )
    return Layout(**given)


def _place(axis: Axis) -> int:
    return Coordinates._fields.index(axis)
