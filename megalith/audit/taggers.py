"""Adjectives by two part-of-speech taggers that need no download: HanTa's (a hidden Markov model) and textblob's.

A word counts as an adjective where both say so. Their errors are measured on sentences that were tagged by hand, and
how far they agree on the text itself is told beside the result.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

from megalith.audit.instrument import Facts, Skipped
from megalith.audit.labelled import TAGGED
from megalith.statistics import wilson_interval

_EXTRA = "is not installed: pip install 'megalith[audit]' (HanTa, textblob, vaderSentiment, alt-profanity-check)."
TAGGERS = ("HanTa", "textblob")
LIMITS = (
    "Both taggers were made for edited English. Words are compared without their sense: “kind” as a noun and as an "
    "adjective differ only by the tag. Subword fragments and names are left to the taggers."
)


def missing(module: str) -> Skipped | None:
    """Return Skipped where an optional module is not installed."""
    from importlib.util import find_spec

    return None if find_spec(module) else Skipped(f"{module} {_EXTRA}")


def words_of(text: str) -> list[str]:
    """Return words and punctuation as the taggers take them."""
    return re.findall(r"[A-Za-z]+(?:['’-][A-Za-z]+)*|\d+|[^\w\s]", text)


def adjectives(sentences: Sequence[Sequence[str]]) -> dict[str, list[set[int]]]:
    """Return, by tagger, the places of the adjectives in each list of words."""
    return {name: [tagger()(words) if words else set() for words in sentences] for name, tagger in _TAGGERS.items()}


def agreement(tagged: dict[str, list[set[int]]], sentences: Sequence[Sequence[str]]) -> Facts:
    """Return how many words each tagger calls adjectives, how many both do, and Cohen's kappa."""
    first, second = (tagged[name] for name in TAGGERS)
    words = sum(map(len, sentences))
    both = sum(len(a & b) for a, b in zip(first, second, strict=True))
    counts = [sum(map(len, own)) for own in (first, second)]
    agreed = 1 - (sum(counts) - 2 * both) / words if words else 1.0
    chance = (counts[0] * counts[1] + (words - counts[0]) * (words - counts[1])) / words**2 if words else 1.0
    return {
        "words": words,
        "adjectives": dict(zip(TAGGERS, counts, strict=True)),
        "both": both,
        "kappa": (agreed - chance) / (1 - chance) if chance < 1 else 1.0,
    }


def errors() -> Facts:
    """Return precision and recall of each tagger, and of both together, on the sentences that were tagged by hand."""
    sentences = [words_of(text.replace("*", "")) for text in TAGGED]
    gold = [_marked(text) for text in TAGGED]
    tagged = adjectives(sentences)
    tagged["both"] = [a & b for a, b in zip(*(tagged[name] for name in TAGGERS), strict=True)]
    scores = {name: _scores(found, gold) for name, found in tagged.items()}
    return {"sentences": len(TAGGED), "adjectives": sum(map(len, gold)), **scores}


def _marked(text: str) -> set[int]:
    """Return the places of the words between asterisks."""
    places = set()
    for place, word in enumerate(re.findall(r"\*?[A-Za-z]+(?:['’-][A-Za-z]+)*\*?|\d+|[^\w\s]", text)):
        if word.startswith("*"):
            places.add(place)
    return places


def _scores(found: Sequence[set[int]], gold: Sequence[set[int]]) -> Facts:
    right = sum(len(a & b) for a, b in zip(found, gold, strict=True))
    told, wanted = sum(map(len, found)), sum(map(len, gold))
    return {
        "precision": right / told if told else None,
        "precision_interval": list(wilson_interval(right, told)),
        "recall": right / wanted,
        "recall_interval": list(wilson_interval(right, wanted)),
    }


@cache
def _hanta() -> Callable[[Sequence[str]], set[int]]:
    from HanTa.HanoverTagger import HanoverTagger

    tagger = HanoverTagger("morphmodel_en.pgz")
    return lambda words: {
        place for place, (_, _, tag) in enumerate(tagger.tag_sent(list(words))) if tag.startswith("AJ")
    }


@cache
def _textblob() -> Callable[[Sequence[str]], set[int]]:
    from textblob.en import tag

    def places(words: Sequence[str]) -> set[int]:
        found = tag(" ".join(words), tokenize=False)
        return {place for place, (_, kind) in enumerate(found) if kind.startswith("JJ")}

    return places


_TAGGERS = {"HanTa": _hanta, "textblob": _textblob}
