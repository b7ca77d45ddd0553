"""Lines, paragraphs and passages as things that may stand more than once: their hashes and their places in the text.

Two are the same if they have the same words in the same order; case, punctuation and white space are of no account
(CCNet, 1911.00359 §3.1, hashes lines so). A passage is a run of so many words (Lee et al., 2107.06499, take 50 tokens);
longer ones are found as runs that overlap.
"""

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.words import MIX, NGRAM_BASE, Words, runs, utf8, words
from megalith.recipe import RepeatsConfig

Array = npt.NDArray[Any]

KINDS = ("paragraphs", "lines", "passages")
UNIT = np.dtype([("hash", "<u8"), ("row", "<u4"), ("start", "<u4"), ("end", "<u4")])
"""A line, paragraph or passage: bytes from `start` to `end` of the text of a row."""


def wanted(config: RepeatsConfig) -> list[str]:
    """The kinds that are looked for."""
    asked = {"paragraphs": config.paragraphs, "lines": config.lines, "passages": config.passage_words > 0}
    return [kind for kind in KINDS if asked[kind]]


def units(texts: pa.Array, rows: Array, config: RepeatsConfig) -> dict[str, Array]:
    """The parts of each text that may be repeats, by kind, arrays of UNIT; `rows` numbers the texts."""
    found = words(texts)
    made: dict[str, Array] = {}
    for kind in wanted(config):
        if kind == "passages":
            parts = [_passages(found.document(place), int(row), config.passage_words) for place, row in enumerate(rows)]
            made[kind] = np.concatenate([np.zeros(0, UNIT), *parts])
        else:
            data, offsets = utf8(texts)
            room = np.empty(len(found.hashes), UNIT)
            columns = (room["hash"], room["row"], room["start"], room["end"])
            breaks = 2 if kind == "paragraphs" else 1
            numbers = rows.astype(np.uint32)
            count = _segments(
                data, offsets, found.hashes, found.halves, found.starts, found.ends, found.bounds, numbers, breaks,
                2 * config.minimum_words, columns,
            )  # fmt: skip
            made[kind] = room[:count]
    return made


def repeats(found: Array, order: Array) -> tuple[Array, Array]:
    """The places in `found` (UNIT, all that have the same hash together) of what stands earlier too, and their starts.

    `order` numbers each unit's document, the first of all lowest. The first of equals is no repeat; what overlaps it,
    as in a text that goes round in circles, begins to be one where the first ends.
    """
    place = np.lexsort((found["start"], order, found["hash"]))
    ordered, ranks = found[place], order[place]
    fresh = np.ones(len(ordered), bool)
    fresh[1:] = ordered["hash"][1:] != ordered["hash"][:-1]
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(ordered)), 0))
    starts = np.where(ranks == ranks[first], np.maximum(ordered["start"], ordered["end"][first]), ordered["start"])
    repeated = ~fresh & (starts < ordered["end"])
    return place[repeated], starts[repeated]


def without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text without these spans (bytes, ascending, apart), and without the gaps that they leave."""
    data = text.encode()
    pieces, at = [], 0
    for start, end in [*spans, (len(data), len(data))]:
        pieces.append(data[at:start].decode())
        at = end
    made = pieces[0]
    for piece in pieces[1:]:
        left, right = made.rstrip(), piece.lstrip(" \t")
        if not left or not right.strip():
            made = left or right.lstrip()
        elif "\n" in made[len(left) :] or right[0] == "\n":
            lines = max(made[len(left) :].count("\n"), len(right) - len(right.lstrip("\n")))
            made = left + "\n" * min(lines, 2) + right.lstrip("\n")
        else:
            made = f"{left} {right}" if made != left or piece != right else left + right
    return made.strip()


def _passages(found: Words, row: int, size: int) -> Array:
    hashes, firsts, lasts = runs(found, size)
    made = np.empty(len(hashes), UNIT)
    made["hash"], made["row"] = hashes, row
    made["start"], made["end"] = found.starts[firsts], found.ends[lasts]
    return made


@numba.njit(cache=True, nogil=True)
def _segments(
    data: Array,
    offsets: Array,
    hashes: Array,
    halves: Array,
    starts: Array,
    ends: Array,
    bounds: Array,
    rows: Array,
    breaks: int,
    least: int,
    columns: tuple[Array, Array, Array, Array],
) -> int:
    """Fill the columns of UNIT with the stretches between `breaks` newlines. Returns how many there are."""
    count = 0
    for document in range(len(bounds) - 1):
        base = offsets[document]
        size = offsets[document + 1] - base
        start = 0
        state = np.uint64(0)
        weight = 0
        for word in range(bounds[document], bounds[document + 1] + 1):
            before = ends[word - 1] if word > bounds[document] else 0
            after = starts[word] if word < bounds[document + 1] else size
            first, last, newlines = -1, -1, 0
            for at in range(before, after):
                if data[base + at] == 10:
                    if first < 0:
                        first = at
                    last = at
                    newlines += 1
            ending = word == bounds[document + 1]
            if newlines >= breaks or ending:
                if weight >= least:
                    columns[0][count] = (state ^ (state >> np.uint64(33))) * MIX
                    columns[1][count] = rows[document]
                    columns[2][count] = start
                    columns[3][count] = first if newlines >= breaks else size
                    count += 1
                start = last + 1
                state = np.uint64(0)
                weight = 0
            if not ending:
                state = state * NGRAM_BASE + hashes[word]
                weight += 2 - halves[word]
    return count
