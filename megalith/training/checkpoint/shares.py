"""Each rank's share of a checkpoint: what several ranks hold alike is staged and written by one of them alone.

DCP too has a piece written once, but it decides that after every rank has copied all that it holds: eight replicas of
an 8B model would keep eight copies of 96 GB in host memory. Here the shares are dealt before anything is copied.
"""

from collections.abc import Mapping, Sequence

import torch.distributed as dist

from megalith.training.checkpoint.pieces import Piece

Place = tuple[str, tuple[int, ...]]
"""A piece by its name and offsets: ranks with the same one hold the same numbers."""


def own_share(held: Mapping[str, Piece], group: dist.ProcessGroup | None) -> frozenset[str]:
    """The names of the pieces that this rank is to write; every rank of the group calls it."""
    places = {(name, each.offsets): each.tensor.nbytes for name, each in held.items() if each.says_something}
    if group is None:
        return frozenset(name for name, _ in places)
    leads = dist.get_rank(group) == 0
    gathered: list[dict[Place, int]] | None = [{}] * dist.get_world_size(group) if leads else None
    dist.gather_object(places, gathered, group=group, group_dst=0)
    own: list[frozenset[str]] = [frozenset()]
    dist.scatter_object_list(own, deal(gathered) if gathered else None, group=group, group_src=0)
    return own[0]


def deal(held: Sequence[Mapping[Place, int]]) -> list[frozenset[str]]:
    """Deal the pieces, of so many bytes, to the ranks that hold them: large ones first, to whoever has the least.

    A rank's share is above the mean by no more than one piece, where all ranks hold the same.
    """
    holders: dict[Place, list[int]] = {}
    sizes: dict[Place, int] = {}
    for rank, places in enumerate(held):
        for place, size in places.items():
            holders.setdefault(place, []).append(rank)
            sizes[place] = size
    shares: list[set[str]] = [set() for _ in held]
    loads = [0] * len(held)
    for place in sorted(holders, key=lambda place: (len(holders[place]) > 1, -sizes[place], place)):
        rank = min(holders[place], key=lambda rank: loads[rank])
        shares[rank].add(place[0])
        loads[rank] += sizes[place]
    return [frozenset(share) for share in shares]
