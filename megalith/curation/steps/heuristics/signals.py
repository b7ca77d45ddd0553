"""The signals of a batch of documents: every figure that the rules of Gopher, C4 and FineWeb look at, in one pass.

The papers leave open what exactly a share is taken over. Here it is as in the code that FineWeb was made with, but for
these: a word is what stands between white space, or in scripts without spaces two characters on average (there: a token
of spaCy and others, which is 100 times the work); blank lines are no lines; stop words count in capitals too; C4's
sentences are counted by their full stops, not by a model.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.steps.heuristics.by_language import count_stop_words
from megalith.curation.steps.heuristics.letters import kinds
from megalith.curation.steps.heuristics.repeats import DUPLICATE_SIZES, TOP_SIZES, duplicates, ngrams
from megalith.curation.steps.heuristics.scan import AT, Counts, scan, stripped
from megalith.ngrams.words import utf8

Array = npt.NDArray[Any]

TOP_NGRAM_CHARACTERS = tuple(f"top_{size}gram_characters" for size in TOP_SIZES)
DUPLICATE_NGRAM_CHARACTERS = tuple(f"duplicate_{size}gram_characters" for size in DUPLICATE_SIZES)
_REPEATS = 4 + len(TOP_SIZES) + len(DUPLICATE_SIZES)


def signal_table(texts: pa.Array, languages: Sequence[str] | None = None) -> pa.Table:
    """The signals of each text, white space around it aside: numbers (int64), then shares and ratios (float64).

    A share of nothing is 0. Stop words are those of each text's language, or English ones.
    """
    data, offsets = utf8(texts)
    counts = np.zeros((len(texts), len(Counts._fields)), np.int64)
    repeats = np.zeros((len(texts), _REPEATS), np.int64)
    _measure(data, offsets, kinds(), counts, repeats)
    held = Counts(*counts.T)
    repeated_lines, line_characters, repeated_paragraphs, paragraph_characters, *by_size = repeats.T
    plain_words = held.words - held.symbol_words
    stop_words = held.stop_words if languages is None else count_stop_words(texts, languages, held.stop_words)
    return pa.table(
        {
            "characters": held.characters,
            "words": plain_words,  # symbols alone are none
            "stop_words": stop_words,  # different ones
            "lines": held.lines,
            "paragraphs": held.paragraphs,
            "sentences": held.sentences,  # in the lines that C4 keeps, whatever they end with
            "terminated_sentences": held.terminated_sentences,  # in those it keeps
            "lorem_ipsum": held.lorem_ipsum,
            "curly_brackets": held.curly_brackets,
            "mean_word_length": _share(held.plain_characters, plain_words),
            "symbol_ratio": _share(np.maximum(held.hashes, held.ellipses), held.words),
            "alphabetic_words": _share(held.alphabetic_words, held.words),
            "bullet_lines": _share(held.bullet_lines, held.lines),
            "ellipsis_lines": _share(held.ellipsis_lines, held.lines),
            "duplicate_lines": _share(repeated_lines, held.lines),
            "duplicate_paragraphs": _share(repeated_paragraphs, held.paragraphs),
            "duplicate_line_characters": _share(line_characters, held.characters),
            "duplicate_paragraph_characters": _share(paragraph_characters, held.characters),
            **{
                name: _share(part, held.characters)
                for name, part in zip((*TOP_NGRAM_CHARACTERS, *DUPLICATE_NGRAM_CHARACTERS), by_size, strict=True)
            },
            "javascript_lines": _share(held.javascript_lines, held.lines),
            "policy_lines": _share(held.policy_lines, held.lines),
            "lines_of_few_words": _share(held.lines_of_few_words, held.lines),
            "unterminated_lines": _share(held.unterminated_lines, held.lines),
            "punctuated_lines": _share(held.punctuated_lines, held.lines),
            "short_lines": _share(held.short_lines, held.lines),
            "duplicate_text_line_characters": _share(line_characters, held.characters - held.newlines),
            "newlines_per_word": _share(held.newlines, held.words),
        }
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
        repeated[0], repeated[1] = duplicates(lines[0], lines[1], of_one[AT.lines], slots)
        repeated[2], repeated[3] = duplicates(paragraphs[0], paragraphs[1], of_one[AT.paragraphs], slots)
        ngrams(words[0], words[1], of_one[AT.words], slots, words[0], work, repeated[4:])
