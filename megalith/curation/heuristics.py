"""Document rules of Gopher (2112.11446, table A1) and MT-NLG's minimum length.

Signals are computed once, a number each; the decision is apart from them, so other thresholds need no second look at
the text. A word is what stands between white space, as in Gopher's shares of characters.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from megalith.curation.words import ngrams
from megalith.recipe import HeuristicsConfig

Array = npt.NDArray[Any]

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))  # Gopher §A1.1
BULLETS = ("•", "‣", "▪", "●", "◦", "-", "*", "–", "·")
ELLIPSES = ("…", "...")


@dataclass(frozen=True)
class Signals:
    """What the rules look at."""

    characters: int
    words: int
    mean_word_length: float
    """Characters."""
    symbol_ratio: float
    """`#` or `…` per word, whichever is more."""
    bullet_lines: float
    ellipsis_lines: float
    alphabetic_words: float
    """Share of words with an alphabetic character."""
    stop_words: int
    """Different ones."""
    duplicate_line_characters: float
    """Share of the characters of lines that are in a line seen before in the text."""
    top_ngram_characters: tuple[float, float, float]
    """Share of the words' characters in all occurrences of the most frequent 2-, 3- and 4-gram."""


def signals(text: str) -> Signals:
    """The figures of one text."""
    found = text.split()
    distinct: dict[str, int] = {}
    codes = np.fromiter((distinct.setdefault(word, len(distinct)) for word in found), np.int64, len(found))
    lengths = np.fromiter(map(len, distinct), np.int64, len(distinct))[codes]
    alphabetic = np.fromiter((bool(_LETTER.search(word)) for word in distinct), bool, len(distinct))[codes]
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    line_characters = sum(map(len, lines))
    characters = int(lengths.sum())
    return Signals(
        characters=len(text),
        words=len(found),
        mean_word_length=_share(characters, len(found)),
        symbol_ratio=_share(max(text.count("#"), text.count("…") + text.count("...")), len(found)),
        bullet_lines=_share(sum(line.startswith(BULLETS) for line in lines), len(lines)),
        ellipsis_lines=_share(sum(line.endswith(ELLIPSES) for line in lines), len(lines)),
        alphabetic_words=_share(int(alphabetic.sum()), len(found)),
        stop_words=len(STOP_WORDS.intersection(map(str.lower, distinct))),
        duplicate_line_characters=_share(line_characters - sum(map(len, set(lines))), line_characters),
        top_ngram_characters=(
            _share(_top_ngram(codes, lengths, 2), characters),
            _share(_top_ngram(codes, lengths, 3), characters),
            _share(_top_ngram(codes, lengths, 4), characters),
        ),
    )


def reason_to_drop(found: Signals, rules: HeuristicsConfig) -> str | None:
    """The first rule that the text fails, by its name in the recipe; None if it passes all."""
    return next((name for name, fails in _RULES if fails(found, rules)), None)


_Rule = Callable[[Signals, HeuristicsConfig], bool]
_RULES: tuple[tuple[str, _Rule], ...] = (
    ("minimum_characters", lambda s, r: s.characters < r.minimum_characters),
    ("minimum_words", lambda s, r: s.words < r.minimum_words),
    ("maximum_words", lambda s, r: s.words > r.maximum_words),
    (
        "mean_word_length",
        lambda s, r: s.words > 0 and not r.mean_word_length[0] <= s.mean_word_length <= r.mean_word_length[1],
    ),
    ("maximum_symbol_ratio", lambda s, r: s.symbol_ratio > r.maximum_symbol_ratio),
    ("maximum_bullet_lines", lambda s, r: s.bullet_lines > r.maximum_bullet_lines),
    ("maximum_ellipsis_lines", lambda s, r: s.ellipsis_lines > r.maximum_ellipsis_lines),
    ("minimum_alphabetic_words", lambda s, r: s.words > 0 and s.alphabetic_words < r.minimum_alphabetic_words),
    ("minimum_stop_words", lambda s, r: s.stop_words < r.minimum_stop_words),
    (
        "maximum_duplicate_line_characters",
        lambda s, r: s.duplicate_line_characters > r.maximum_duplicate_line_characters,
    ),
    (
        "maximum_top_ngram_characters",
        lambda s, r: any(
            share > most for share, most in zip(s.top_ngram_characters, r.maximum_top_ngram_characters, strict=True)
        ),
    ),
)
_LETTER = re.compile(r"[^\W\d_]")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _top_ngram(codes: Array, lengths: Array, size: int) -> int:
    """Characters in all occurrences of the most frequent n-gram (the longest of equals); 0 if none recurs."""
    keys = ngrams((codes.astype(np.uint64) + np.uint64(1)) * _SPREAD, size)
    if len(keys) < 2:
        return 0
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(starts, len(ordered)))
    most = int(counts.max())
    if most == 1:
        return 0
    top = np.isin(keys, ordered[starts[counts == most]])
    sizes = sum(lengths[place : place + len(keys)] for place in range(size))
    return most * int(np.max(sizes, where=top, initial=0))


_SPREAD = np.uint64(0xFF51AFD7ED558CCD)
