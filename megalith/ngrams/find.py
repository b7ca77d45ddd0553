"""Wanted n-grams of words, found in texts in one pass: a look at one bit spares most of them the search.

In scripts without spaces two characters count as one word (`words.runs`), so an n-gram has more units there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.sorted_sets import different
from megalith.ngrams.words import NGRAM_BASE, Words, powers, words

Array = npt.NDArray[Any]
Ngrams = Mapping[int, Array]
"""Length in words → the sorted hashes of n-grams of that length."""


@dataclass(frozen=True)
class Matches:
    """Where wanted n-grams stand, by length, then by document and place."""

    documents: Array
    starts: Array
    """Byte in the document."""
    ends: Array
    hashes: Array


def find_matches(texts: pa.Array, wanted: Ngrams) -> Matches:
    """Each wanted n-gram that stands within one of the texts."""
    found = words(texts)
    held: list[tuple[Array, Array, Array, Array]] = [(*(np.zeros(0, np.int64),) * 3, np.zeros(0, np.uint64))]
    for size, one in ready(wanted).items():
        documents, places, lasts, rolled = _find(found, size, one)
        held.append((documents, found.starts[places], found.ends[lasts], rolled))
    return Matches(*(np.concatenate(column) for column in zip(*held, strict=True)))


@dataclass(frozen=True)
class Searched:
    """Wanted n-grams of one length, made ready to be looked for in many batches."""

    hashes: Array
    """Ascending."""
    likely: Array
    """bool, a power of two long: whether a wanted hash has these low bits."""


def ready(wanted: Ngrams) -> dict[int, Searched]:
    """The wanted n-grams with a table of at least 8 places for each, so that seven of eight others fall through."""
    made = {}
    for size, hashes in wanted.items():
        likely = np.zeros(max(_LEAST_PLACES, 1 << int(8 * len(hashes)).bit_length()), dtype=bool)
        likely[hashes & np.uint64(len(likely) - 1)] = True
        made[size] = Searched(hashes, likely)
    return made


def occurring(texts: pa.Array, wanted: Mapping[int, Searched]) -> dict[int, Array]:
    """The different ones of the wanted n-grams that stand within one of the texts, ascending, by length in words."""
    found = words(texts)
    return {size: different(_find(found, size, one)[3]) for size, one in wanted.items()}


_LEAST_PLACES = 2**20


def _find(found: Words, size: int, wanted: Searched) -> tuple[Array, Array, Array, Array]:
    """Document, first and last unit, and hash of each n-gram of `size` words that is wanted."""
    room = 1024
    while True:
        documents, places, lasts = (np.empty(room, np.int64) for _ in range(3))
        hashes = np.empty(room, np.uint64)
        if found.any_halves:
            count = _roll_halves(
                found.hashes, found.halves, found.bounds, size, wanted.hashes, wanted.likely, documents, places, lasts,
                hashes,
            )  # fmt: skip
        else:
            count = _roll(found.hashes, found.bounds, size, wanted.hashes, wanted.likely, documents, places, hashes)
            lasts = places + size - 1
        if count <= room:
            return documents[:count], places[:count], lasts[:count], hashes[:count]
        room = count


@numba.njit(cache=True, nogil=True)
def _roll(
    hashes: Array, bounds: Array, size: int, wanted: Array, likely: Array, documents: Array, places: Array, found: Array
) -> int:
    """How many n-grams there are; as many as there is room for are written down."""
    count = 0
    low_bits = np.uint64(len(likely) - 1)
    highest = np.uint64(1)
    for _ in range(size - 1):
        highest *= NGRAM_BASE
    for document in range(len(bounds) - 1):
        first = bounds[document]
        last = bounds[document + 1] - size
        if last < first:
            continue
        state = np.uint64(0)
        for place in range(first, first + size - 1):
            state = state * NGRAM_BASE + hashes[place]
        for place in range(first, last + 1):
            state = state * NGRAM_BASE + hashes[place + size - 1]
            if likely[state & low_bits]:
                at = np.searchsorted(wanted, state)
                if at < len(wanted) and wanted[at] == state:
                    if count < len(documents):
                        documents[count] = document
                        places[count] = place
                        found[count] = state
                    count += 1
            state -= highest * hashes[place]
    return count


@numba.njit(cache=True, nogil=True)
def _roll_halves(
    hashes: Array,
    halves: Array,
    bounds: Array,
    size: int,
    wanted: Array,
    likely: Array,
    documents: Array,
    places: Array,
    lasts: Array,
    found: Array,
) -> int:
    """`_roll` where some units are half a word."""
    count = 0
    low_bits = np.uint64(len(likely) - 1)
    lead = powers(2 * size)
    for document in range(len(bounds) - 1):
        end = bounds[document]
        last = bounds[document + 1]
        state = np.uint64(0)
        weight = 0
        for place in range(bounds[document], last):
            while weight < 2 * size and end < last:
                state = state * NGRAM_BASE + hashes[end]
                weight += 2 - halves[end]
                end += 1
            if weight < 2 * size:
                break
            if likely[state & low_bits]:
                at = np.searchsorted(wanted, state)
                if at < len(wanted) and wanted[at] == state:
                    if count < len(documents):
                        documents[count] = document
                        places[count] = place
                        lasts[count] = end - 1
                        found[count] = state
                    count += 1
            state -= hashes[place] * lead[end - place - 1]
            weight -= 2 - halves[place]
    return count
