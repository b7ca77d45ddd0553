"""Random draws that depend on the seed and a name alone, never on rank, batch or subset.

Solved examples ("shots") are drawn this way: a sampler with one sequential generator gives an item other shots at
another world size, order or subset (lm-evaluation-harness #1719, #1751); a keyed hash does not.
"""

from collections.abc import Sequence
from hashlib import blake2b


def draw(seed: int, name: str, candidates: Sequence[int], count: int) -> list[int]:
    """Return `count` different members of `candidates` in random order.

    Raises ValueError if there are too few.
    """
    if len(candidates) < count:
        raise ValueError(f"{count} wanted of {len(candidates)} candidates")
    left = list(candidates)
    return [left.pop(keyed_hash(seed, f"{name}/{turn}") % len(left)) for turn in range(count)]


def keyed_hash(seed: int, name: str) -> int:
    """Return a pseudo-random 63-bit number, the same on every machine."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
