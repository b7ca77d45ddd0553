"""Where on the token ring each sample begins: a pure function of (seed, sample number), with no table behind it.

The token stream is a ring: after its last token, which ends a document, comes its first. An epoch begins at a place of
its own on the ring and cuts N // T windows of T tokens, whose order is a keyed permutation (a Feistel network with
cycle walking: Luby & Rackoff 1988; Black & Rogaway 2002). All chance comes from splitmix64, read by counter.
"""

import numpy as np
from numpy.typing import NDArray

_FEISTEL_ROUNDS = 8
_SMALLEST_HALF_BITS = 3  # networks over fewer bits reach too few of the permutations
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: splitmix64's increment (Steele et al. 2014)


def window_starts(samples: NDArray[np.uint64], tokens: int, length: int, seed: int) -> NDArray[np.int64]:
    """The place at which each sample's window of `length` begins, (B,); the place of a token is modulo `tokens`."""
    per_epoch = windows_per_epoch(tokens, length)
    epochs, places = samples // np.uint64(per_epoch), samples % np.uint64(per_epoch)
    epoch_keys = keys(seed, epochs)  # (B,)
    offsets = (mix(~epoch_keys) % np.uint64(tokens)).astype(np.int64)
    return offsets + permute(places, per_epoch, epoch_keys) * length


def windows_per_epoch(tokens: int, length: int) -> int:
    """How many windows an epoch has: a stream shorter than one is gone round."""
    return max(1, tokens // length)


def permute(numbers: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Each of `numbers` (all under `size`) under the permutation of 0 … size − 1 that its own key picks."""
    half_bits = max(_SMALLEST_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
    turns = np.arange(1, _FEISTEL_ROUNDS + 1, dtype=np.uint64)
    round_keys = mix(keys + turns[:, None] * GOLDEN)  # (rounds, B)
    values = _feistel(numbers, round_keys, half_bits)
    outside = np.flatnonzero(values >= size)
    while outside.size:  # walk on along the cycle until it is back inside
        values[outside] = _feistel(values[outside], round_keys[:, outside], half_bits)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def keys(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit key for each number, different for each seed."""
    return mix(mix(np.full_like(numbers, seed % 2**64)) + numbers * GOLDEN)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: every bit in reaches every bit out."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _feistel(values: NDArray[np.uint64], round_keys: NDArray[np.uint64], half_bits: int) -> NDArray[np.uint64]:
    """A keyed permutation of 0 … 4^half_bits − 1."""
    left, right = values >> np.uint64(half_bits), values & np.uint64(2**half_bits - 1)
    for keys in round_keys:
        left, right = right, left ^ (mix(right ^ keys) >> np.uint64(64 - half_bits))
    return (left << np.uint64(half_bits)) | right
