"""The rank map: which place on the four axes each rank has, and which ranks work together on an axis.

Tensor is innermost, then context, data, and pipeline outermost (MT-NLG §2): the ranks of a tensor group, which speak
most often, are neighbours and fit into a node; those that share a sample (context) come next, then those of a data
group; the stages of a pipeline, which speak only to the one before and the one after, are farthest apart. The rank at
(p, d, c, t) is ((p · data + d) · context + c) · tensor + t.

Which rank lies on which machine is said in `clusters`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from megalith.errors import RecipeError
from megalith.recipe.machine import ParallelConfig

Axis = Literal["pipeline", "data", "context", "tensor"]
AXES: tuple[Axis, ...] = ("pipeline", "data", "context", "tensor")
"""From the outermost to the innermost."""
MeshAxis = Literal["pipeline", "replicate", "shard", "tensor"]
MESH_AXES: tuple[MeshAxis, ...] = ("pipeline", "replicate", "shard", "tensor")
"""The mesh that training builds. Data and context together are one axis of it, whose ranks add up their gradients, in
two: ZeRO shards over `shard`, and `replicate` such groups hold the same."""


class Coordinates(NamedTuple):
    """The place of a rank on each axis, from 0."""

    pipeline: int
    data: int
    context: int
    tensor: int


@dataclass(frozen=True)
class Layout:
    """The sizes of the four axes."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    context: int = 1
    """Ranks that share the tokens of each sample."""

    @property
    def world(self) -> int:
        """Ranks in all."""
        return self.pipeline * self.data * self.context * self.tensor

    @property
    def replica(self) -> int:
        """Ranks that work on the same samples."""
        return self.pipeline * self.context * self.tensor

    @property
    def gradient_ranks(self) -> int:
        """Ranks that add up their gradients: those of a data group, and those that share a sample with them."""
        return self.data * self.context

    def size(self, axis: Axis) -> int:
        """Ranks along `axis`."""
        return {"pipeline": self.pipeline, "data": self.data, "context": self.context, "tensor": self.tensor}[axis]

    def rank(self, pipeline: int, data: int, context: int, tensor: int) -> int:
        """The rank at these coordinates."""
        return ((pipeline * self.data + data) * self.context + context) * self.tensor + tensor

    def coordinates(self, rank: int) -> Coordinates:
        """The coordinates of `rank`."""
        rest, tensor = divmod(rank, self.tensor)
        rest, context = divmod(rest, self.context)
        pipeline, data = divmod(rest, self.data)
        return Coordinates(pipeline, data, context, tensor)

    def group(self, axis: Axis, rank: int) -> tuple[int, ...]:
        """The ranks that differ from `rank` on `axis` alone, itself among them, in the order of the axis."""
        place = self.coordinates(rank)
        return tuple(self.rank(**{**place._asdict(), axis: index}) for index in range(self.size(axis)))

    def groups(self, axis: Axis) -> tuple[tuple[int, ...], ...]:
        """Every group of `axis`, by its first rank: each rank is in exactly one."""
        return tuple(self.group(axis, rank) for rank in range(self.world) if self.coordinates(rank)[_place(axis)] == 0)

    def gradient_group(self, rank: int) -> tuple[int, ...]:
        """The ranks that differ from `rank` on the data and the context axis alone, itself among them."""
        place = self.coordinates(rank)
        first = self.rank(place.pipeline, 0, 0, place.tensor)
        return tuple(first + number * self.tensor for number in range(self.gradient_ranks))

    def shard_groups(self, rank: int, shard: int) -> tuple[tuple[int, ...], ...]:
        """The gradient group of `rank` cut into groups of `shard` neighbours, each of which holds the weights once."""
        whole = self.gradient_group(rank)
        return tuple(whole[first : first + shard] for first in range(0, len(whole), shard))

    def replica_groups(self, rank: int, shard: int) -> tuple[tuple[int, ...], ...]:
        """The ranks of the same gradient group that hold the same part of the weights, one of each shard group."""
        whole = self.gradient_group(rank)
        return tuple(whole[first::shard] for first in range(shard))

    def ends(self, rank: int) -> tuple[int, int]:
        """The ranks of the first and of the last stage of `rank`'s pipeline: both hold tied embeddings."""
        pipeline = self.group("pipeline", rank)
        return pipeline[0], pipeline[-1]


def shard_ranks(zero: int, zero_shard: int | None, gradient_ranks: int) -> int:
    """Ranks over which ZeRO shards, of those that add up their gradients; 1 without ZeRO."""
    return (zero_shard or gradient_ranks) if zero and gradient_ranks > 1 else 1


def mesh_shape(layout: Layout, shard: int) -> tuple[int, int, int, int]:
    """Sizes of the mesh over MESH_AXES where ZeRO shards over `shard` neighbours of the gradient group."""
    return layout.pipeline, layout.gradient_ranks // shard, shard, layout.tensor


def layout_of(parallel: ParallelConfig) -> Layout:
    """The layout that a recipe gives. Raises RecipeError where it leaves an axis open; an open context is 1."""
    given = {axis: getattr(parallel, axis) for axis in ("tensor", "pipeline", "data")}
    missing = [axis for axis, size in given.items() if size is None]
    if missing:
        raise RecipeError(
            f"the layout is left open ({', '.join(missing)}).",
            where="parallel",
            mend=f"Set {' '.join(f'parallel.{axis}=N' for axis in missing)}, or name the recipe.json of a plan.",
        )
    return Layout(**given, context=parallel.context or 1)


def _place(axis: Axis) -> int:
    return Coordinates._fields.index(axis)
