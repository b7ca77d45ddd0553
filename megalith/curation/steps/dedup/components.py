"""Candidates, their verification, and the components of near-duplicates, in bounded memory.

One band at a time: documents are sorted by their key of the band, and of those that share one the signatures are read,
some thousands at a time, and compared. Beside that there are some 40 bytes a document. Documents with one and the same
signature count as one, so that a page that stands a million times costs one comparison, not half a billion.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.curation.steps.dedup.minhash import EMPTY, band_keys
from megalith.ngrams.sorted_sets import different
from megalith.ngrams.words import MIX

Array = npt.NDArray[Any]

HELD_SIGNATURES = 65_536
"""Read at a time: 68 MB at 260 hashes. A larger bucket is looked at in parts that share `_ANCHORS` documents."""
MOST_COMPARISONS = 1 << 24
"""In one bucket; all pairs of 5,792 documents. Half a second of one core."""
_ANCHORS = 1024


@dataclass(frozen=True)
class Components:
    """Who is a near-duplicate of whom."""

    roots: Array
    """For each document the first document (by place) of its component."""
    buckets_cut_short: int
    """Buckets so large, and so little alike, that not every pair in them was compared."""


def find_components(
    documents: int,
    bands: int,
    rows: int,
    minimum_jaccard: float,
    keys: Callable[[int], Array],
    signatures: Callable[[Array], Array],
) -> Components:
    """The components of the graph of verified pairs.

    Two documents are joined if they agree in all `rows` places of one of `bands` bands, and in a share of at least
    `minimum_jaccard` of all places; texts without words with none. `keys` gives the `band_keys` of one band, uint64
    (documents,); `signatures` those of some documents, given in rising order, uint32 (some, bands · rows). The result
    depends on the signatures alone, not on the order of documents.
    """
    hashes = bands * rows
    enough = int(np.ceil(minimum_jaccard * hashes - 1e-9))
    empty = band_keys(np.full((1, hashes), EMPTY, np.uint32), bands, rows)[0]
    parents, distinct = _join_equal(documents, bands, keys, empty)
    cut_short = 0
    for band in range(bands):
        for members, bounds in _buckets(keys(band)[distinct], distinct, parents):
            needed = different(members)
            signed = signatures(needed)
            cut_short += _link(signed, np.searchsorted(needed, members), members, bounds, enough, parents)
    return Components(_roots(parents), cut_short)


def components(signed: Array, bands: int, rows: int, minimum_jaccard: float) -> Array:
    """The roots of `find_components` for signatures (documents, bands · rows) that are in memory."""
    keys = band_keys(signed, bands, rows)
    found = find_components(
        len(signed), bands, rows, minimum_jaccard, lambda band: keys[:, band], lambda places: signed[places]
    )
    return found.roots


def _join_equal(documents: int, bands: int, keys: Callable[[int], Array], empty: Array) -> tuple[Array, Array]:
    """Parents with documents of equal signature joined, and the first of each that has words, in an order that depends
    on their signatures alone."""
    whole = np.zeros(documents, np.uint64)
    of_empty = np.zeros(1, np.uint64)
    for band in range(bands):
        for state, key in ((whole, keys(band)), (of_empty, empty[band : band + 1])):
            state ^= key
            state *= MIX
            state ^= state >> np.uint64(33)
    order = np.argsort(whole, kind="stable")
    ordered = whole[order]
    starts = _starts(ordered)
    sizes = np.diff(np.append(starts, documents))
    worded = ordered[starts] != of_empty[0]
    parents = np.arange(documents, dtype=np.int64)
    parents[order[np.repeat(worded, sizes)]] = np.repeat(order[starts[worded]], sizes[worded])
    return parents, order[starts[worded]]


def _buckets(keys: Array, documents: Array, parents: Array) -> Iterator[tuple[Array, Array]]:
    """Documents of one key that are not all joined yet, bucket after bucket, and where each bucket starts and ends."""
    order = np.argsort(keys, kind="stable")
    ordered, members = keys[order], documents[order]
    starts = _starts(ordered)
    sizes = np.diff(np.append(starts, len(members)))
    roots = _roots(parents)[members]
    open_ = sizes > 1
    if open_.any():
        open_ &= np.minimum.reduceat(roots, starts) != np.maximum.reduceat(roots, starts)
    members, sizes = members[np.repeat(open_, sizes)], sizes[open_]
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = int(ends[first] - sizes[first])
        last = max(first + 1, int(np.searchsorted(ends, before + HELD_SIGNATURES, side="right")))
        held = members[before : ends[last - 1]]
        if len(held) <= HELD_SIGNATURES:
            yield held, np.append(0, ends[first:last] - before)
        else:
            yield from _parts(held)
        first = last


def _parts(bucket: Array) -> Iterator[tuple[Array, Array]]:
    """A bucket too large to be held, in parts that have their first documents in common."""
    anchors, others = bucket[:_ANCHORS], bucket[_ANCHORS:]
    step = HELD_SIGNATURES - _ANCHORS
    for start in range(0, len(others), step):
        part = np.concatenate([anchors, others[start : start + step]])
        yield part, np.array([0, len(part)])


def _starts(ordered: Array) -> Array:
    """Where a value differs from the one before."""
    if not len(ordered):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _roots(parents: Array) -> Array:
    while True:
        above: Array = parents[parents]
        if np.array_equal(above, parents):
            return parents
        parents = above


@numba.njit(cache=True, nogil=True)
def _link(signed: Array, places: Array, members: Array, bounds: Array, enough: int, parents: Array) -> int:
    """Join the verified pairs of each bucket: from one document to all that are like it, from these to all others that
    are, until none is left. How many buckets were given up before."""
    largest = 0
    for bucket in range(len(bounds) - 1):
        largest = max(largest, bounds[bucket + 1] - bounds[bucket])
    apart = np.empty(largest, np.int64)
    reached = np.empty(largest, np.int64)
    cut_short = 0
    for bucket in range(len(bounds) - 1):
        left = bounds[bucket + 1] - bounds[bucket]
        for index in range(left):
            apart[index] = bounds[bucket + 1] - 1 - index
        waiting = 0
        spent = 0
        while left > 0 and spent < MOST_COMPARISONS:
            if waiting == 0:
                left -= 1
                one = apart[left]
            else:
                waiting -= 1
                one = reached[waiting]
            root = _root(parents, members[one])
            still = 0
            for index in range(left):
                other = apart[index]
                other_root = _root(parents, members[other])
                if other_root != root:
                    spent += 1
                    if _agreeing(signed[places[one]], signed[places[other]]) < enough:
                        apart[still] = other
                        still += 1
                        continue
                    parents[max(root, other_root)] = min(root, other_root)
                    root = min(root, other_root)
                reached[waiting] = other
                waiting += 1
            left = still
        cut_short += left > 0
    return cut_short


@numba.njit(cache=True, nogil=True)
def _root(parents: Array, document: int) -> int:
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


@numba.njit(cache=True, nogil=True)
def _agreeing(one: Array, other: Array) -> int:
    count = 0
    for index in range(len(one)):
        count += one[index] == other[index]
    return count
