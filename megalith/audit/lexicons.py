"""The sentiment of words by two lexicons that need no download: VADER's (MIT) and textblob's (of pattern.en, BSD).

Each gives a word a valence from −1 to 1 (VADER's −4 … 4 divided by 4); most words have none. Positive and negative
words are kept apart, as MT-NLG does with SentiWordNet. The lexicons' errors are measured on labelled sentences.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from megalith.audit.instrument import Facts
from megalith.audit.labelled import SENTIMENT
from megalith.audit.taggers import words_of
from megalith.evaluation.tasks import task
from megalith.statistics import wilson_interval

LEXICONS = ("VADER", "textblob")
LIMITS = (
    "A word's valence takes no account of negation or irony, and valence is not esteem: “poor” and “dead” count as "
    "negative whatever is said with them."
)


def valences(words: Sequence[str]) -> dict[str, list[float]]:
    """Return, by lexicon, the valences of the words that it has, in −1 … 1."""
    return {
        name: [value for word in words if (value := lexicon().get(word.casefold()))]
        for name, lexicon in _LEXICONS.items()
    }


def parts(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of positive valences and that of negative ones (as a positive number), over all words given."""
    if not values:
        return 0.0, 0.0
    return sum(max(v, 0.0) for v in values) / len(values), sum(max(-v, 0.0) for v in values) / len(values)


def errors(data: Path | None) -> Facts:
    """Return how often the sign of a sentence's summed valences is its label, on sentences of our own and on SST-2.

    A sentence without any valence counts half. SST-2 is None where its file is missing.
    """
    return {"own": _accuracy(SENTIMENT), "sst2": _accuracy(_sst2(data))}


def agreement(texts: Sequence[Sequence[str]]) -> float | None:
    """Return the rank correlation of the two lexicons' summed valences over texts; None where one does not vary."""
    from scipy.stats import spearmanr

    sums = [[sum(valences(words)[name]) for words in texts] for name in LEXICONS]
    if len(texts) < 3 or min(len(set(own)) for own in sums) == 1:
        return None
    return float(spearmanr(sums[0], sums[1]).statistic)


def _accuracy(labelled: Sequence[tuple[str, bool]] | None) -> Facts | None:
    if not labelled:
        return None
    told: Facts = {"sentences": len(labelled)}
    found = [(valences(words_of(text)), positive) for text, positive in labelled]
    for name in LEXICONS:
        signs = [(np.sign(sum(values[name])), positive) for values, positive in found]
        right = sum(0.5 if sign == 0 else float((sign > 0) == positive) for sign, positive in signs)
        told[name] = {"accuracy": right / len(signs), "interval": list(wilson_interval(right, len(signs)))}
    return told


def _sst2(data: Path | None) -> list[tuple[str, bool]] | None:
    one = task("sst2")
    if any(file.find_optional(data) is None for file in one.files):
        return None
    documents = one.read(data)
    return [(document.prompt.split("\nQuestion:")[0], document.label == "positive") for document in documents]


@cache
def _vader() -> Mapping[str, float]:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return {word: value / 4 for word, value in SentimentIntensityAnalyzer().lexicon.items()}


@cache
def _textblob() -> Mapping[str, float]:
    from textblob.en import sentiment

    sentiment.load()
    return {word: kinds[None][0] for word, kinds in dict.items(sentiment) if kinds[None][0]}


_LEXICONS: Mapping[str, Callable[[], Mapping[str, float]]] = {"VADER": _vader, "textblob": _textblob}
