"""Near-duplicates: MinHash, bands, verification, connected components (MT-NLG §3.1).

Words are hashed once, shingles of them reduced to a signature by one fused kernel, candidates found by sorting each
band, verified on the whole signature, and joined. Of each component one copy is kept: the longest text, then the
smallest id.
"""

import hashlib
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.words import words

Array = npt.NDArray[Any]


def signatures(texts: pa.Array, shingle_words: int, hashes: int) -> Array:
    """The MinHash signature of each text, uint32 (documents, hashes).

    The share of equal places of two signatures estimates the Jaccard similarity of their sets of shingles,
    without bias and with a variance of J(1 − J) / hashes. A text of fewer words than a shingle is
    one shingle; a text of no words has a signature of ones, which is like no other.
    """
    found = words(texts)
    multipliers, increments = permutations(hashes)
    made = np.full((len(texts), hashes), _EMPTY, np.uint32)
    _sign(found.hashes, found.bounds, shingle_words, multipliers, increments, made)
    return made


def components(signed: Array, bands: int, rows: int, minimum_jaccard: float) -> Array:
    """For each document the first document (by place) of its component of near-duplicates.

    Two documents are joined if they agree in all `rows` places of one of `bands` bands, and in a share of at least
    `minimum_jaccard` of all places.
    """
    parents = np.arange(len(signed), dtype=np.int64)
    worded = np.flatnonzero((signed != _EMPTY).any(axis=1)) if len(signed) else np.zeros(0, np.int64)
    enough = int(np.ceil(minimum_jaccard * signed.shape[1] - 1e-9))
    for band in range(bands):
        keys = _band_keys(signed[worded, band * rows : (band + 1) * rows])
        order = np.argsort(keys, kind="stable")
        _link(signed, keys[order], worded[order], enough, parents)
    return _roots(parents)


def find_near_duplicates(documents: pa.Table, bands: int, rows: int, minimum_jaccard: float) -> pa.Table:
    """The near-duplicates among `documents` (row, id, url, bytes, signature): row, reason, kept_id, kept_url."""
    length = len(documents)
    packed = b"".join(documents["signature"].to_pylist())
    signed = np.frombuffer(packed, np.uint32).reshape(length, bands * rows)
    roots = components(signed, bands, rows, minimum_jaccard)
    ids = np.array(documents["id"].to_pylist(), dtype=object)
    order = np.lexsort((np.argsort(np.argsort(ids)), -documents["bytes"].to_numpy(), roots))
    first = np.ones(length, dtype=bool)
    first[1:] = roots[order][1:] != roots[order][:-1]
    kept = order[np.maximum.accumulate(np.where(first, np.arange(length), 0))]
    lost, copies = pa.array(order[~first]), pa.array(kept[~first])
    return pa.table(
        {
            "row": documents["row"].take(lost),
            "reason": pa.array(["near duplicate"] * len(lost), pa.string()),
            "kept_id": documents["id"].take(copies),
            "kept_url": documents["url"].take(copies),
        }
    )


def permutations(hashes: int) -> tuple[Array, Array]:
    """The constants of the hash functions x → m·x + a modulo 2³²; m is odd, so each is a permutation."""
    drawn = np.frombuffer(hashlib.shake_128(b"megalith minhash").digest(8 * hashes), "<u4").astype(np.uint32)
    return drawn[:hashes] | np.uint32(1), drawn[hashes:]


_EMPTY = np.uint32(0xFFFFFFFF)
_SHINGLE_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


@numba.njit(cache=True, nogil=True)
def _sign(hashes: Array, bounds: Array, width: int, multipliers: Array, increments: Array, made: Array) -> None:
    for document in range(len(bounds) - 1):
        first = bounds[document]
        last = bounds[document + 1]
        size = min(width, last - first)
        if size == 0:
            continue
        signature = made[document]
        for at in range(first, last - size + 1):
            state = np.uint64(0)
            for place in range(size):
                state = state * _SHINGLE_BASE + hashes[at + place]
            state = (state ^ (state >> np.uint64(33))) * _MIX
            shingle = np.uint32(state >> np.uint64(32))
            for index in range(len(signature)):
                value = np.uint32(multipliers[index] * shingle + increments[index])
                if value < signature[index]:
                    signature[index] = value


def _band_keys(band: Array) -> Array:
    """One 64-bit key for each row of (documents, rows)."""
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = (keys ^ column) * _MIX
        keys ^= keys >> np.uint64(33)
    return keys


@numba.njit(cache=True, nogil=True)
def _link(signed: Array, keys: Array, documents: Array, enough: int, parents: Array) -> None:
    """Join every verified pair among documents of equal key; pairs that are joined already need no look."""
    start = 0
    while start < len(keys):
        stop = start + 1
        while stop < len(keys) and keys[stop] == keys[start]:
            stop += 1
        for one in range(start, stop):
            for other in range(one + 1, stop):
                left = documents[one]
                right = documents[other]
                while parents[left] != left:
                    parents[left] = parents[parents[left]]
                    left = parents[left]
                while parents[right] != right:
                    parents[right] = parents[parents[right]]
                    right = parents[right]
                if left == right:
                    continue
                agreeing = 0
                for index in range(signed.shape[1]):
                    agreeing += signed[documents[one], index] == signed[documents[other], index]
                if agreeing >= enough:
                    parents[max(left, right)] = min(left, right)
        start = stop


def _roots(parents: Array) -> Array:
    while True:
        above = parents[parents]
        if np.array_equal(above, parents):
            return parents
        parents = above
