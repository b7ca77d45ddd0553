"""Draws that depend on the seed and the thing drawn, and on nothing else: no order, no layout, no generator's state."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def draw(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1), uniform over names."""
    return float(draws(seed, purpose, [name])[0])


def draws(seed: int, purpose: str, names: Iterable[str]) -> Array:
    """The draw of each name, float64; half a microsecond each."""
    keyed = hashlib.blake2b(key=f"{seed} {purpose}".encode()[:64], digest_size=8)
    digests = bytearray()
    for name in names:
        of_one = keyed.copy()
        of_one.update(name.encode())
        digests += of_one.digest()
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)) / 2**53
