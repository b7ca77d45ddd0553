"""The MinHash signature of each document of a batch, by one compiled pass over its words, and the keys of its bands."""

import hashlib
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.words import MIX, words

Array = npt.NDArray[Any]

EMPTY = np.uint32(0xFFFFFFFF)
"""Every hash of a text without words."""


def signatures(
    texts: pa.Array, shingle_words: int, hashes: int, unspaced_characters: int = 2, characters: int | None = None
) -> Array:
    """The MinHash signature of each text, uint32 (documents, hashes).

    A shingle is `shingle_words` words, or `unspaced_characters` characters where it begins with one of a script without
    spaces; with `characters`, so many letters of any script.

    The share of equal places of two signatures estimates the Jaccard similarity of their sets of shingles,
    without bias and with a variance of J(1 − J) / hashes. A text of fewer words than a shingle is
    one shingle; a text of no words has a signature of ones, which is like no other.
    """
    found = words(texts, by_character=characters is not None)
    multipliers, increments = permutations(hashes)
    made = np.full((len(texts), hashes), EMPTY, np.uint32)
    widths = (shingle_words, characters or unspaced_characters)
    _sign(found.hashes, found.halves, found.bounds, widths, multipliers, increments, made)
    return made


def band_keys(signed: Array, bands: int, rows: int) -> Array:
    """A 64-bit key of each band of each signature (documents, bands · rows): uint64 (documents, bands)."""
    keys = np.empty((len(signed), bands), np.uint64)
    _key(signed, rows, keys)
    return keys


def permutations(hashes: int) -> tuple[Array, Array]:
    """The constants of the hash functions x → m·x + a modulo 2³²; m is odd, so each is a permutation."""
    drawn = np.frombuffer(hashlib.shake_128(b"megalith minhash").digest(8 * hashes), "<u4").astype(np.uint32)
    return drawn[:hashes] | np.uint32(1), drawn[hashes:]


_SHINGLE_BASE = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 8


@numba.njit(cache=True, nogil=True)
def _sign(
    hashes: Array,
    halves: Array,
    bounds: Array,
    widths: tuple[int, int],
    multipliers: Array,
    increments: Array,
    made: Array,
) -> None:
    room = 0
    for document in range(len(bounds) - 1):
        room = max(room, bounds[document + 1] - bounds[document])
    shingles = np.empty(room + _BLOCK, np.uint32)
    for document in range(len(bounds) - 1):
        first = bounds[document]
        last = bounds[document + 1]
        if first == last:
            continue
        count = 0
        for at in range(first, last):
            size = widths[halves[at]]
            if at + size > last:
                if count or at + 1 < last:  # a text shorter than a shingle is one by itself
                    continue
                at, size = first, last - first
            state = np.uint64(0)
            for place in range(at, at + size):
                state = state * _SHINGLE_BASE + hashes[place]
            state = (state ^ (state >> np.uint64(33))) * MIX
            shingles[count] = np.uint32(state >> np.uint64(32))
            count += 1
        while count % _BLOCK:  # a shingle that stands twice changes nothing
            shingles[count] = shingles[count - 1]
            count += 1
        signature = made[document]
        for at in range(0, count, _BLOCK):  # eight at a time: the constants and the signature are read once for all
            s0, s1, s2, s3 = shingles[at], shingles[at + 1], shingles[at + 2], shingles[at + 3]
            s4, s5, s6, s7 = shingles[at + 4], shingles[at + 5], shingles[at + 6], shingles[at + 7]
            for index in range(len(signature)):
                m = multipliers[index]
                a = increments[index]
                least = min(
                    min(
                        min(np.uint32(m * s0 + a), np.uint32(m * s1 + a)),
                        min(np.uint32(m * s2 + a), np.uint32(m * s3 + a)),
                    ),
                    min(
                        min(np.uint32(m * s4 + a), np.uint32(m * s5 + a)),
                        min(np.uint32(m * s6 + a), np.uint32(m * s7 + a)),
                    ),
                )
                signature[index] = min(signature[index], least)


@numba.njit(cache=True, nogil=True)
def _key(signed: Array, rows: int, keys: Array) -> None:
    for document in range(len(signed)):
        for band in range(keys.shape[1]):
            key = np.uint64(0)
            for row in range(band * rows, (band + 1) * rows):
                key = (key ^ np.uint64(signed[document, row])) * MIX
                key ^= key >> np.uint64(33)
            keys[document, band] = key
