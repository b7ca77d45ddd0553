"""Draws that depend on the seed and the thing drawn, and on nothing else: no order, no layout, no generator's state."""

import hashlib


def draw(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1), uniform over names."""
    digest = hashlib.blake2b(name.encode(), key=f"{seed} {purpose}".encode()[:64], digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
