"""fastText's features of a text: its words, their sub-words and runs of words, hashed exactly as fastText hashes them.

Words stand between white space and are hashed by FNV-1a over signed bytes in 32 bits; a run of words by a polynomial
over those hashes in 64 bits (`Dictionary::getLine`). One kernel reads the UTF-8 bytes of an Arrow array and sums the
features' rows as it meets them.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.words import utf8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model, to be found by their hash."""

    spellings: Array
    """The bytes of all words and then labels, one after another."""
    bounds: Array
    """Entry n is spellings[bounds[n]:bounds[n + 1]]."""
    places: Array
    """Open addressing: the entry at a hash's place or one of those behind it; −1 where there is none."""
    words: int
    buckets: int
    kept_buckets: Array
    """For each bucket the row that a pruned model keeps for it, −1 for none; empty where all are kept."""
    ngram_words: int
    subwords: tuple[int, int]
    """Shortest and longest, in characters; a longest of 0 for none."""


def index_words(
    words: list[bytes],
    labels: list[bytes],
    *,
    buckets: int,
    kept_buckets: Array | None,
    ngram_words: int,
    subwords: tuple[int, int],
) -> Vocabulary:
    entries = [*words, *labels]
    bounds = np.concatenate(([0], np.cumsum([len(entry) for entry in entries]))).astype(np.int64)
    spellings = np.frombuffer(b"".join(entries) or b"\0", np.uint8)
    places = np.full(1 << max(4, (2 * len(entries)).bit_length()), -1, np.int32)
    _place(spellings, bounds, places)
    none = np.zeros(0, np.int32)
    return Vocabulary(
        spellings,
        bounds,
        places,
        len(words),
        buckets,
        none if kept_buckets is None else kept_buckets,
        ngram_words,
        subwords,
    )


def mean_rows(texts: pa.Array, vocabulary: Vocabulary, rows: Array) -> tuple[Array, Array]:
    """The mean of the rows of each text's features, float32 (documents, values), and which texts have any."""
    data, offsets = utf8(texts)
    sums = np.zeros((len(texts), rows.shape[1]), np.float64)
    counts = np.zeros(len(texts), np.int64)
    pruned_to_nothing = vocabulary.kept_buckets.size > 0 and bool((vocabulary.kept_buckets < 0).all())
    _sum(
        data,
        offsets,
        vocabulary.spellings,
        vocabulary.bounds,
        vocabulary.places,
        vocabulary.words,
        0 if pruned_to_nothing else vocabulary.buckets,
        vocabulary.kept_buckets,
        vocabulary.ngram_words,
        vocabulary.subwords[0],
        vocabulary.subwords[1],
        rows,
        sums,
        counts,
    )
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts > 0


_OFFSET = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_RUN_BASE = np.uint64(116049371)
_LABEL = np.frombuffer(b"__label__", np.uint8)
_END = np.frombuffer(b"</s>", np.uint8)


@numba.njit(cache=True, nogil=True, inline="always")
def _hashed(state: np.uint32, byte: np.uint8) -> np.uint32:
    wide = np.uint32(byte)
    if wide >= 0x80:
        wide |= np.uint32(0xFFFFFF00)  # fastText's bytes are signed
    return np.uint32((state ^ wide) * _PRIME)


@numba.njit(cache=True, nogil=True)
def _place(spellings: Array, bounds: Array, places: Array) -> None:
    for entry in range(len(bounds) - 1):
        state = _OFFSET
        for at in range(bounds[entry], bounds[entry + 1]):
            state = _hashed(state, spellings[at])
        place = np.int64(state) & (len(places) - 1)
        while places[place] >= 0:
            place = (place + 1) & (len(places) - 1)
        places[place] = entry


@numba.njit(cache=True, nogil=True)
def _find(data: Array, first: int, last: int, state: np.uint32, spellings: Array, bounds: Array, places: Array) -> int:
    """The entry of a word that stands at first … last − 1, or −1."""
    place = np.int64(state) & (len(places) - 1)
    while places[place] >= 0:
        entry = places[place]
        start = bounds[entry]
        if bounds[entry + 1] - start == last - first:
            same = True
            for at in range(last - first):
                if data[first + at] != spellings[start + at]:
                    same = False
                    break
            if same:
                return int(entry)
        place = (place + 1) & (len(places) - 1)
    return -1


@numba.njit(cache=True, nogil=True)
def _begins(data: Array, first: int, last: int, start: Array) -> bool:
    if last - first < len(start):
        return False
    for at in range(len(start)):  # noqa: SIM110  # Numba compiles loops
        if data[first + at] != start[at]:
            return False
    return True


@numba.njit(cache=True, nogil=True, inline="always")
def _add_bucket(bucket: np.int64, words: int, kept_buckets: Array, rows: Array, sums: Array) -> int:
    """Add the row of a bucket, if it has one; 1 if it has."""
    row = bucket
    if len(kept_buckets):
        row = kept_buckets[bucket]
        if row < 0:
            return 0
    for value in range(rows.shape[1]):
        sums[value] += rows[words + row, value]
    return 1


@numba.njit(cache=True, nogil=True)
def _add_subwords(
    data: Array,
    first: int,
    last: int,
    shortest: int,
    longest: int,
    words: int,
    buckets: int,
    kept_buckets: Array,
    rows: Array,
    sums: Array,
) -> int:
    """Add the runs of shortest … longest characters of <word>, its ends marked as here; how many there are."""
    length = last - first + 2
    added = 0
    for start in range(length):
        byte = data[first + start - 1] if 0 < start < length - 1 else np.uint8(0x3C)
        if byte & 0xC0 == 0x80:
            continue
        state = _OFFSET
        at = start
        characters = 1
        while at < length and characters <= longest:
            while True:
                if at == 0:
                    byte = np.uint8(0x3C)
                elif at == length - 1:
                    byte = np.uint8(0x3E)
                else:
                    byte = data[first + at - 1]
                state = _hashed(state, byte)
                at += 1
                if not (at < length - 1 and at > 0 and data[first + at - 1] & 0xC0 == 0x80):
                    break
            if characters >= shortest and not (characters == 1 and (start == 0 or at == length)):
                added += _add_bucket(np.int64(state) % buckets, words, kept_buckets, rows, sums)
            characters += 1
    return added


@numba.njit(cache=True, nogil=True)
def _sum(
    data: Array,
    offsets: Array,
    spellings: Array,
    bounds: Array,
    places: Array,
    words: int,
    buckets: int,
    kept_buckets: Array,
    ngram_words: int,
    shortest: int,
    longest: int,
    rows: Array,
    sums: Array,
    counts: Array,
) -> None:
    room = 1
    for document in range(len(offsets) - 1):
        room = max(room, (offsets[document + 1] - offsets[document]) // 2 + 2)
    hashes = np.empty(room, np.uint64)
    for document in range(len(offsets) - 1):
        at = offsets[document]
        stop = offsets[document + 1]
        of_document = sums[document]
        count = 0
        seen = 0
        ended = False
        while not ended:
            while at < stop and (data[at] == 32 or data[at] == 0 or 9 <= data[at] <= 13):
                at += 1
            first = at
            state = _OFFSET
            while at < stop and not (data[at] == 32 or data[at] == 0 or 9 <= data[at] <= 13):
                state = _hashed(state, data[at])
                at += 1
            source = data
            last = at
            if first == last:  # fastText ends every text with this word
                source = _END
                first = 0
                last = len(_END)
                for place in range(last):
                    state = _hashed(state, _END[place])
            ended = last - first == len(_END) and _begins(source, first, last, _END)
            entry = _find(source, first, last, state, spellings, bounds, places)
            if entry >= words or (entry < 0 and _begins(source, first, last, _LABEL)):
                continue
            if entry >= 0:
                for value in range(rows.shape[1]):
                    of_document[value] += rows[entry, value]
                count += 1
            if longest > 0 and buckets > 0 and not ended:
                count += _add_subwords(
                    source, first, last, shortest, longest, words, buckets, kept_buckets, rows, of_document
                )
            hashes[seen] = np.uint64(np.int64(np.int32(state)))
            seen += 1
        if ngram_words > 1 and buckets > 0:
            for start in range(seen):
                run = hashes[start]
                for place in range(start + 1, min(seen, start + ngram_words)):
                    run = run * _RUN_BASE + hashes[place]
                    count += _add_bucket(np.int64(run % np.uint64(buckets)), words, kept_buckets, rows, of_document)
        counts[document] = count
