"""Task texts are cut out of the training text (GPT-3 appendix C, MT-NLG §3.2).

Every n-gram of words of a task text is searched for; a task text somewhat shorter than an n-gram is searched for whole.
N-grams that are frequent in training are common language and are not used. A match is cut together with a margin, out
to the next sentence end of any script if that is not further than the margin again; the longer remaining pieces are
kept. Places are those of the original text. In scripts without spaces two characters count as a word.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.find import Ngrams, find_matches
from megalith.ngrams.sentences import SENTENCE_TERMINAL
from megalith.ngrams.sorted_sets import among, different
from megalith.ngrams.words import runs, words
from megalith.recipe import DecontaminateConfig

Array = npt.NDArray[Any]
Span = tuple[int, int]


def task_ngrams(texts: Sequence[str], config: DecontaminateConfig) -> Ngrams:
    """Every n-gram of the texts of a task, and texts of minimum_words … ngram_words − 1 words whole."""
    found = words(pa.array([unicodedata.normalize("NFC", text) for text in texts], pa.large_string()))
    by_size: dict[int, list[Array]] = {}
    for number in range(len(texts)):
        of_one = found.document(number)
        size = min(of_one.count, config.ngram_words)
        if size >= min(config.minimum_words, config.ngram_words):
            by_size.setdefault(size, []).append(runs(of_one, size)[0])
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

    A cut goes out from the margin to the next sentence end, or failing that to the next gap between words, by less
    than the margin again; where there is neither, it is at the margin.
    """
    margin = config.margin_characters
    signs = np.array([found.end() for found in _SENTENCE_END.finditer(text)], np.int64)
    removed = _merge((_before(text, signs, start, margin), _after(text, signs, end, margin)) for start, end in spans)
    edges = [0, *(edge for span in removed for edge in span), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return [piece for piece in pieces if len(piece) > config.minimum_piece_characters]


def characters(text: str, spans: Iterable[Span]) -> list[Span]:
    """Spans in bytes of the UTF-8 text as spans in characters."""
    data = np.frombuffer(text.encode(), np.uint8)
    before = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])  # characters that begin before each byte
    return [(int(before[start]), int(before[end])) for start, end in spans]


_SENTENCE_END = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in SENTENCE_TERMINAL)}]")


def _merge(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _before(text: str, ends: Array, start: int, margin: int) -> int:
    """Where a cut begins: after the last of the sentence `ends` before the margin; failing that, at a gap."""
    place = max(start - margin, 0)
    least = max(place - margin + 1, 0)
    before = int(np.searchsorted(ends, place, side="right"))
    if before and ends[before - 1] >= least:
        return int(ends[before - 1])
    gap = next((at for at in range(place, least, -1) if text[at - 1].isspace()), place)
    return _whole(text, gap)


def _after(text: str, ends: Array, end: int, margin: int) -> int:
    """Where a cut ends: after the first of the sentence `ends` from the margin on; failing that, at a gap."""
    place = min(end + margin, len(text))
    most = min(place + max(margin - 1, 0), len(text))
    after = int(np.searchsorted(ends, place, side="right"))
    if after < len(ends) and ends[after] <= most:
        return int(ends[after])
    gap = next((at for at in range(place, most) if text[at].isspace()), place)
    return _whole(text, gap)


def _whole(text: str, place: int) -> int:
    """The place, or the next one that parts no mark from its letter."""
    while place < len(text) and unicodedata.category(text[place])[0] == "M":
        place += 1
    return place
