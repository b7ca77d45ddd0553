"""Task texts are cut out of the training text (GPT-3 appendix C, MT-NLG §3.2).

Every n-gram of words of a task text is searched for; a task text somewhat shorter than an n-gram is searched for whole.
N-grams that are frequent in training are common language and are not used. A match is cut together with a margin, out
to the next sentence end; the longer remaining pieces are kept. Places are those of the original text.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.find import Ngrams, find_matches
from megalith.ngrams.sorted_sets import among, different
from megalith.ngrams.words import ngrams, words
from megalith.recipe import DecontaminateConfig

Array = npt.NDArray[Any]
Span = tuple[int, int]


def task_ngrams(texts: Sequence[str], config: DecontaminateConfig) -> Ngrams:
    """Every n-gram of the texts of a task, and texts of minimum_words … ngram_words − 1 words whole."""
    found = words(pa.array(texts, pa.large_string()))
    by_size: dict[int, list[Array]] = {}
    for start, end in zip(found.bounds[:-1], found.bounds[1:], strict=True):
        size = min(int(end - start), config.ngram_words)
        if size >= min(config.minimum_words, config.ngram_words):
            by_size.setdefault(size, []).append(ngrams(found.hashes[start:end], size))
    return {size: different(np.concatenate(parts)) for size, parts in sorted(by_size.items())}


def union(sets: Iterable[Ngrams]) -> Ngrams:
    """The n-grams of any of `sets`."""
    by_size: dict[int, list[Array]] = {}
    for one in sets:
        for size, hashes in one.items():
            by_size.setdefault(size, []).append(hashes)
    return {size: different(np.concatenate(parts)) for size, parts in sorted(by_size.items())}


def without(held: Ngrams, others: Array) -> Ngrams:
    """The n-grams of `held` whose hash is not among the ascending `others`."""
    return {size: hashes[~among(hashes, others)] for size, hashes in held.items()}


def match_spans(texts: pa.Array, wanted: Ngrams) -> list[list[Span]]:
    """For each text the spans (bytes) that wanted n-grams cover; those that overlap are one span."""
    spans: list[list[Span]] = [[] for _ in range(len(texts))]
    found = find_matches(texts, wanted)
    for document, start, end in zip(found.documents.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True):
        spans[document].append((start, end))
    return [_merge(of_one) for of_one in spans]


def cut(text: str, spans: Iterable[Span], config: DecontaminateConfig) -> list[str]:
    """The pieces of `text` that are left and long enough when `spans` (characters) are cut with their margins.

    Where no sentence ends on the way out, the cut is at the margin, between two words.
    """
    margin = config.margin_characters
    signs = np.array([found.start() for found in _SENTENCE_END.finditer(text)], np.int64)
    removed = _merge(
        (_sentence_end_before(text, signs, start - margin), _sentence_end_after(text, signs, end + margin))
        for start, end in spans
    )
    edges = [0, *(edge for span in removed for edge in span), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return [piece for piece in pieces if len(piece) > config.minimum_piece_characters]


def characters(text: str, spans: Iterable[Span]) -> list[Span]:
    """Spans in bytes of the UTF-8 text as spans in characters."""
    data = np.frombuffer(text.encode(), np.uint8)
    before = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])  # characters that begin before each byte
    return [(int(before[start]), int(before[end])) for start, end in spans]


LONGEST_WORD_CHARACTERS = 1000
"""A cut goes no further to find a gap between words."""
_SENTENCE_END = re.compile("[.!?]")


def _merge(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _sentence_end_before(text: str, signs: Array, place: int) -> int:
    """After the last sentence end before `place`; failing that, a gap between words."""
    place = max(place, 0)
    before = int(np.searchsorted(signs, place))
    if before:
        return int(signs[before - 1]) + 1
    least = max(0, place - LONGEST_WORD_CHARACTERS)
    while place > least and not text[place - 1].isspace():
        place -= 1
    return place


def _sentence_end_after(text: str, signs: Array, place: int) -> int:
    """After the first sentence end from `place` on; failing that, a gap between words."""
    place = min(place, len(text))
    before = int(np.searchsorted(signs, place))
    if before < len(signs):
        return int(signs[before]) + 1
    most = min(len(text), place + LONGEST_WORD_CHARACTERS)
    while place < most and not text[place].isspace():
        place += 1
    return place
