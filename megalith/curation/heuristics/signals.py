"""The signals of a batch of documents: every figure that the rules of Gopher, C4 and FineWeb look at, in one pass.

The papers leave open what exactly a share is taken over. Here it is as in the code that FineWeb was made with, but for
these: a word is what stands between white space (there: a token of spaCy, which is 100 times the work); blank lines
are no lines; stop words count in capitals too; C4's sentences are counted by their full stops, not by a model.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.heuristics.letters import kinds
from megalith.curation.heuristics.repeats import DUPLICATE_SIZES, TOP_SIZES, duplicates, ngrams
from megalith.curation.heuristics.scan import COUNTS, scan, stripped
from megalith.curation.words import utf8

Array = npt.NDArray[Any]

TOP_NGRAM_CHARACTERS = tuple(f"top_{size}gram_characters" for size in TOP_SIZES)
DUPLICATE_NGRAM_CHARACTERS = tuple(f"duplicate_{size}gram_characters" for size in DUPLICATE_SIZES)
SCHEMA = pa.schema(
    [
        *(
            (name, pa.int64())
            for name in (
                "characters",
                "words",  # symbols alone are none
                "stop_words",  # different ones
                "lines",
                "paragraphs",
                "sentences",  # in the lines that C4 keeps, whatever they end with
                "terminated_sentences",  # in those it keeps
                "lorem_ipsum",
                "curly_brackets",
            )
        ),
        *(
            (name, pa.float64())
            for name in (
                "mean_word_length",
                "symbol_ratio",
                "alphabetic_words",
                "bullet_lines",
                "ellipsis_lines",
                "duplicate_lines",
                "duplicate_paragraphs",
                "duplicate_line_characters",
                "duplicate_paragraph_characters",
                *TOP_NGRAM_CHARACTERS,
                *DUPLICATE_NGRAM_CHARACTERS,
                "javascript_lines",
                "policy_lines",
                "lines_of_few_words",
                "unterminated_lines",
                "punctuated_lines",
                "short_lines",
                "duplicate_text_line_characters",
                "newlines_per_word",
            )
        ),
    ]
)
"""The columns of `signal_table`: numbers, then shares and ratios."""


def signal_table(texts: pa.Array) -> pa.Table:
    """The signals of each text, white space around it aside, as `SCHEMA`. A share of nothing is 0."""
    data, offsets = utf8(texts)
    counts = np.zeros((len(texts), len(COUNTS)), np.int64)
    repeats = np.zeros((len(texts), _REPEATS), np.int64)
    _measure(data, offsets, kinds(), counts, repeats)
    held = dict(zip(COUNTS, counts.T, strict=True))
    repeated_lines, line_characters, repeated_paragraphs, paragraph_characters, *by_size = repeats.T
    characters, lines, words = held["characters"], held["lines"], held["words"]
    plain_words = words - held["symbol_words"]
    shares = {
        "mean_word_length": _share(held["plain_characters"], plain_words),
        "symbol_ratio": _share(np.maximum(held["hashes"], held["ellipses"]), words),
        "alphabetic_words": _share(held["alphabetic_words"], words),
        "duplicate_lines": _share(repeated_lines, lines),
        "duplicate_paragraphs": _share(repeated_paragraphs, held["paragraphs"]),
        "duplicate_line_characters": _share(line_characters, characters),
        "duplicate_paragraph_characters": _share(paragraph_characters, characters),
        "duplicate_text_line_characters": _share(line_characters, characters - held["newlines"]),
        "newlines_per_word": _share(held["newlines"], words),
        **{
            name: _share(part, characters)
            for name, part in zip((*TOP_NGRAM_CHARACTERS, *DUPLICATE_NGRAM_CHARACTERS), by_size, strict=True)
        },
        **{name: _share(held[name], lines) for name in _OF_LINES},
    }
    figures = {**held, "words": plain_words, **shares}
    return pa.table({name: figures[name] for name in SCHEMA.names}, schema=SCHEMA)


_REPEATS = 4 + len(TOP_SIZES) + len(DUPLICATE_SIZES)
_OF_LINES = (
    "bullet_lines",
    "ellipsis_lines",
    "javascript_lines",
    "policy_lines",
    "lines_of_few_words",
    "unterminated_lines",
    "punctuated_lines",
    "short_lines",
)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole != 0)


@numba.njit(cache=True, nogil=True)
def _measure(data: Array, offsets: Array, kinds: Array, counts: Array, repeats: Array) -> None:
    # Numba's cache asks about the age of this file alone: touch it after a change to those it calls into.
    room = 0
    for document in range(len(counts)):
        room = max(room, offsets[document + 1] - offsets[document])
    room = room // 2 + 2  # words and lines are a byte each and one between
    words = (np.empty(room, np.uint64), np.empty(room, np.int32))
    lines = (np.empty(room, np.uint64), np.empty(room, np.int32))
    paragraphs = (np.empty(room, np.uint64), np.empty(room, np.int32))
    work = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32))
    slots = np.empty(max(8, 4 * room), np.int32)
    for document in range(len(counts)):
        first, last = stripped(data, offsets[document], offsets[document + 1], kinds)
        if first == last:
            continue
        of_one = counts[document]
        scan(data, first, last, kinds, of_one, words, lines, paragraphs)
        repeated = repeats[document]
        repeated[0], repeated[1] = duplicates(lines[0], lines[1], of_one[9], slots)
        repeated[2], repeated[3] = duplicates(paragraphs[0], paragraphs[1], of_one[10], slots)
        ngrams(words[0], words[1], of_one[2], slots, words[0], work, repeated[4:])
