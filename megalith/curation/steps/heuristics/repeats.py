"""Repetitions within one text: lines, paragraphs, and n-grams of words, as Gopher counts them (2112.11446, table A1).

Only n-grams that can recur are examined. An n-gram is identified by the place of its first occurrence, which follows
from those of its two (n − 1)-grams; if one of these is unique, so is the n-gram. After 2-grams few are left, so ten
lengths cost less than three.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
_LARGEST = DUPLICATE_SIZES[-1]
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True)
def duplicates(hashes: Array, lengths: Array, count: int, slots: Array) -> tuple[int, int]:
    """How many of the first `count` elements stood before, and their characters."""
    bits = _clear(slots, count)
    elements = 0
    characters = 0
    for at in range(count):
        if _first(hashes, hashes[at], at, slots, bits) != at:
            elements += 1
            characters += lengths[at]
    return elements, characters


@numba.njit(cache=True, nogil=True)
def ngrams(
    hashes: Array, lengths: Array, count: int, slots: Array, keys: Array, work: tuple[Array, Array, Array], found: Array
) -> None:
    """Characters in all occurrences of the most frequent 2-, 3- and 4-gram (of equals, the first), spaces between
    words included; then characters in 5- to 10-grams that stood before, without spaces, each character once.

    `found` takes the nine of them; `lengths` becomes the running sum.
    """
    firsts, tallies, places = work
    found[:] = 0
    for at in range(1, count):
        lengths[at] += lengths[at - 1]
    bits = _clear(slots, count)
    for at in range(count):
        first = _first(hashes, hashes[at], at, slots, bits)
        firsts[at] = first
        tallies[at] = 1
        if first != at:
            tallies[first] += 1
    held = 0
    for at in range(count):
        if tallies[firsts[at]] > 1:
            places[held] = at
            held += 1
    for size in range(2, min(_LARGEST, count) + 1):
        pairs = 0
        for index in range(held - 1):
            if places[index + 1] == places[index] + 1:
                places[pairs] = places[index]
                pairs += 1
        bits = _clear(slots, pairs)
        top, often = 0, 1
        for index in range(pairs):
            at = places[index]
            key = np.uint64(firsts[at]) << np.uint64(32) | np.uint64(firsts[at + 1])
            keys[at] = key
            first = _first(keys, key, at, slots, bits)
            if first == at:
                tallies[at] = 1
            else:
                tallies[first] += 1
                tally = tallies[first]
                if tally > often or (tally == often and first < top):
                    top, often = first, tally
            firsts[at] = first
        if size <= TOP_SIZES[-1]:
            found[size - TOP_SIZES[0]] = often * (_characters(lengths, top, size) + size - 1)
        held = 0
        for index in range(pairs):
            at = places[index]
            if tallies[firsts[at]] > 1:
                places[held] = at
                held += 1
        if size >= DUPLICATE_SIZES[0]:
            free = 0
            repeated = 0
            for index in range(held):
                at = places[index]
                if at < free:  # inside of what is counted already
                    continue
                if tallies[firsts[at]] < 0:
                    repeated += _characters(lengths, at, size)
                    free = at + size
                else:
                    tallies[firsts[at]] = -1
            found[size - DUPLICATE_SIZES[0] + len(TOP_SIZES)] = repeated


@numba.njit(cache=True, nogil=True)
def _characters(running: Array, at: int, size: int) -> int:
    whole: int = running[at + size - 1]
    before: int = running[at - 1] if at else 0
    return whole - before


@numba.njit(cache=True, nogil=True)
def _clear(slots: Array, count: int) -> int:
    """Empty as much of the hash table as `count` elements want; the binary logarithm of its size."""
    bits = 3
    while 1 << bits < 2 * count:
        bits += 1
    slots[: 1 << bits] = -1
    return bits


@numba.njit(cache=True, nogil=True)
def _first(keys: Array, key: np.uint64, at: int, slots: Array, bits: int) -> int:
    """The place that was entered first with this key; `at` is entered if there is none."""
    mask = (1 << bits) - 1
    slot = np.int64((key * _SPREAD) >> np.uint64(64 - bits))
    while slots[slot] >= 0:
        first: int = slots[slot]
        if keys[first] == key:
            return first
        slot = (slot + 1) & mask
    slots[slot] = at
    return at
