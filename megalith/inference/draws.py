"""Draws that are a pure function of the seed and a name, never of rank, batch or subset.

So are the solved examples ("shots") of a prompt chosen: samplers that draw from one sequential generator give the same
item other shots at another world size, order or subset (lm-evaluation-harness #1719, #1751); a keyed hash cannot.
"""

from collections.abc import Sequence
from hashlib import blake2b


def draw(seed: int, name: str, candidates: Sequence[int], count: int) -> list[int]:
    """`count` different members of `candidates`, in random order.

    Raises ValueError if there are too few.
    """
    if len(candidates) < count:
        raise ValueError(f"{count} wanted of {len(candidates)} candidates")
    left = list(candidates)
    return [left.pop(keyed_hash(seed, f"{name}/{turn}") % len(left)) for turn in range(count)]


def keyed_hash(seed: int, name: str) -> int:
    """A 63-bit number that is random to the eye and the same on every machine."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
