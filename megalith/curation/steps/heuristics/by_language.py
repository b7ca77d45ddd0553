"""The document rules by language: its stop words, and thresholds in place of the English ones.

`languages.json` has 76 languages by ISO 639-1 code, from FineWeb-2 (2506.20920; github.com/huggingface/fineweb-2 at
d0defb2, configs/*.yml, Apache 2.0): words that make up 0.8 % and more of the language's Wikipedia, and thresholds moved
from English by how each signal is spread there. Two choices are our own: letters of scripts without spaces are parted
after two on average (`scan`), where FineWeb-2 has a tokenizer for each language; and the shortest length, in characters
of English, is a third of that in Chinese and Japanese and half in Korean, as a character is three bytes there.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from megalith.ngrams.words import words
from megalith.recipe.heuristics import HeuristicsConfig

Array = npt.NDArray[Any]

ENGLISH: dict[str, Any] = {
    "mean_word_length": (3.0, 10.0),
    "minimum_alphabetic_words": 0.8,
    "maximum_duplicate_lines": 0.3,
    "maximum_top_ngram_characters": (0.20, 0.18, 0.16),
    "maximum_duplicate_ngram_characters": (0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
    "minimum_punctuated_lines": 0.12,
    "maximum_newlines_per_word": 0.3,
}
"""The thresholds that a language's own stand for. One that the recipe sets otherwise holds for all languages."""
_WITHIN_WORDS = {"zh", "ja", "ko", "th", "lo", "km", "my"}
"""Their stop words are looked for inside of what stands between spaces."""
_LETTERS = {"zh": 3, "ja": 3, "ko": 2}
_WITHOUT_SENTENCE_ENDS = {"th", "lo"}
_SENTENCE_RULES: dict[str, Any] = {
    "minimum_sentences": 0,
    "minimum_terminated_sentences": 0,
    "maximum_unterminated_lines": 1.0,
    "minimum_punctuated_lines": 0.0,
}
_UNKNOWN: dict[str, Any] = {"minimum_stop_words": 0, "mean_word_length": (0.0, 1e9), "minimum_alphabetic_words": 0.0}


@dataclass(frozen=True)
class LanguageRules:
    """Stop words and thresholds of one language."""

    stop_words: Sequence[str]
    thresholds: Mapping[str, Any]


@functools.cache
def held() -> Mapping[str, LanguageRules]:
    """The languages of the data file by code. English is not among them: it has the papers' own values."""
    found = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))
    return {
        code: LanguageRules(
            one["stop_words"],
            {name: tuple(value) if isinstance(value := one[name], list) else value for name in ENGLISH},
        )
        for code, one in found.items()
    }


def rules_of(language: str, rules: HeuristicsConfig) -> HeuristicsConfig:
    """The thresholds for documents of a language; those of the recipe in English and where no language is recognised.

    A language without values of its own is asked nothing about its stop words and letters.
    """
    if language in ("en", "un") or not rules.by_language:
        return rules
    own = held().get(language)
    if own is None:
        changed = dict(_UNKNOWN)
    else:
        changed = {name: own.thresholds[name] for name, english in ENGLISH.items() if getattr(rules, name) == english}
        changed["minimum_characters"] = rules.minimum_characters // _LETTERS.get(language, 1)
        if language in _WITHOUT_SENTENCE_ENDS:
            changed |= _SENTENCE_RULES
    return rules.model_copy(update=changed)


def count_stop_words(texts: pa.Array, languages: Sequence[str], english: Array) -> Array:
    """How many different stop words of its language each text has, int64; `english` where there are none for it."""
    found = english.copy()
    named = np.array(languages, object)
    for language in sorted(set(languages) & held().keys()):
        rows = np.flatnonzero(named == language)
        some = texts.take(pa.array(rows))
        stop_words = held()[language].stop_words
        found[rows] = (_within if language in _WITHIN_WORDS else _between_spaces)(some, stop_words)
    return found


def _within(texts: pa.Array, stop_words: Sequence[str]) -> Array:
    found = np.zeros(len(texts), np.int64)
    for word in stop_words:
        found += pc.match_substring(texts, word).to_numpy(zero_copy_only=False)
    return found


def _between_spaces(texts: pa.Array, stop_words: Sequence[str]) -> Array:
    spelled = words(pa.array(stop_words, pa.large_string()))
    wanted = np.unique(spelled.hashes[spelled.bounds[:-1][np.diff(spelled.bounds) == 1]])
    found = words(texts)
    places = np.minimum(np.searchsorted(wanted, found.hashes), len(wanted) - 1)
    stands = np.zeros((len(texts), len(wanted)), bool)
    document = np.repeat(np.arange(len(texts)), np.diff(found.bounds))
    is_one = wanted[places] == found.hashes
    stands[document[is_one], places[is_one]] = True
    counts: Array = stands.sum(axis=1)
    return counts
