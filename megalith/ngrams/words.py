"""The words of a batch of documents: `\\w+`, lower-cased, as 64-bit hashes with their true places in the text.

One pass over the UTF-8 bytes of an Arrow array feeds both the near-duplicate search and the decontamination. Words are
lower-cased letter by letter, so a place is always a place in the original text, also where `str.lower()` would change
its length (İ). The final sigma counts as a sigma.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
MIX = np.uint64(0xFF51AFD7ED558CCD)
"""A constant of MurmurHash3's finaliser."""
NGRAM_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """The words of all documents of a batch, one after another."""

    hashes: Array
    """uint64, one a word."""
    starts: Array
    """Byte in the document at which each word starts."""
    ends: Array
    """Byte in the document after each word."""
    bounds: Array
    """Words of document d are bounds[d] … bounds[d + 1] − 1."""


def words(texts: pa.Array) -> Words:
    """Find and hash the words of each text."""
    data, offsets = utf8(texts)
    room = int(offsets[-1] - offsets[0] + len(offsets)) // 2 + 1
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int32)
    ends = np.empty(room, np.int32)
    bounds = np.zeros(len(offsets), np.int64)
    _scan(data, offsets, _folded(), hashes, starts, ends, bounds)
    count = int(bounds[-1])
    return Words(hashes[:count], starts[:count], ends[:count], bounds)


def utf8(texts: pa.Array) -> tuple[Array, Array]:
    """The bytes of an Arrow string array without a copy, and where each text starts (one more than there are texts)."""
    texts = texts.cast(pa.large_string())
    _, places, data = texts.buffers()
    if len(texts) == 0 or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8), offsets


def ngrams(hashes: Array, size: int) -> Array:
    """The hash of each run of `size` consecutive words; one shorter by size − 1 than `hashes`."""
    count = max(0, len(hashes) - size + 1)
    rolled = np.zeros(count, np.uint64)
    for place in range(size):
        rolled = rolled * NGRAM_BASE + hashes[place : place + count]
    return rolled


@numba.njit(cache=True, nogil=True)
def decode(data: Array, at: int, byte: np.uint32) -> tuple[np.uint32, int]:
    """The code point that begins with `byte`, which is no ASCII, and its width in bytes."""
    six, low = np.uint32(6), np.uint32(0x3F)
    if byte < 0xE0:
        return (byte & np.uint32(0x1F)) << six | (np.uint32(data[at + 1]) & low), 2
    if byte < 0xF0:
        high = (byte & np.uint32(0x0F)) << six | (np.uint32(data[at + 1]) & low)
        return high << six | (np.uint32(data[at + 2]) & low), 3
    high = (byte & np.uint32(0x07)) << six | (np.uint32(data[at + 1]) & low)
    high = high << six | (np.uint32(data[at + 2]) & low)
    return high << six | (np.uint32(data[at + 3]) & low), 4


@numba.njit(cache=True, nogil=True)
def decode_before(data: Array, end: int) -> tuple[np.uint32, int]:
    """The code point that ends at `end`, and where it begins."""
    at = end - 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    code = np.uint32(data[at])
    if code >= 0x80:
        code, _ = decode(data, at, code)
    return code, at


@functools.cache
def _folded() -> Array:
    """For each code point its lower-cased form, or 0 where it is no part of a word."""
    table = np.zeros(0x110000, np.uint32)
    for code in range(len(table)):
        letter = chr(code)
        if letter.isalnum() or letter == "_":
            table[code] = ord(letter.lower()[0])
    table[ord("ς")] = ord("σ")
    return table


@numba.njit(cache=True, nogil=True)
def _scan(data: Array, offsets: Array, folded: Array, hashes: Array, starts: Array, ends: Array, bounds: Array) -> None:
    count = 0
    for document in range(len(offsets) - 1):
        first = offsets[document]
        last = offsets[document + 1]
        at = first
        inside = False
        state = FNV_OFFSET
        while at < last:
            code = np.uint32(data[at])
            width = 1
            if code >= 0x80:
                code, width = decode(data, at, code)
            letter = folded[code]
            if letter != 0:
                if not inside:
                    inside = True
                    state = FNV_OFFSET
                    starts[count] = at - first
                state = (state ^ np.uint64(letter)) * FNV_PRIME
            elif inside:
                inside = False
                state = (state ^ (state >> np.uint64(33))) * MIX
                hashes[count] = state ^ (state >> np.uint64(33))
                ends[count] = at - first
                count += 1
            at += width
        if inside:
            state = (state ^ (state >> np.uint64(33))) * MIX
            hashes[count] = state ^ (state >> np.uint64(33))
            ends[count] = last - first
            count += 1
        bounds[document + 1] = count
