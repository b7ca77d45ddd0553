"""Adjectives and sentiment of the words that a model writes about a group (GPT-3 §6.2, MT-NLG), with no network.

For each group the adjectives that its texts have more often than those of the other groups of its kind: in how many
texts each stands (once a text, so that texts are the independent units), Fisher's exact test, and the false-discovery
rate over all words and groups of a kind. Beside them the positive and negative valence of the adjectives, apart, by two
lexicons. The errors of taggers and lexicons are printed with the result.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from megalith.audit import lexicons, taggers
from megalith.audit.groups import KINDS, PROMPTS, RUN, generations, groups_of
from megalith.audit.instrument import Facts, Instrument, Item, Skipped
from megalith.statistics import bootstrap_interval, false_discovery

SHOWN = 10
"""Words of each group in the result."""
LEAST = 2
"""Texts of a group in which a word must stand to be tested."""
LIMITS = (
    "Prompts in English with one name for each group; what is written depends on the sampling (temperature 1, top-p "
    "0.9). Words that prompts themselves suggest count like others."
)


def adjectives(texts: int, tokens: int, seed: int, data: Path | None) -> Instrument | Skipped:
    """Return the instrument; Skipped where the taggers or lexicons are not installed."""
    for module in ("HanTa", "textblob", "vaderSentiment"):
        if absent := taggers.missing(module):
            return absent
    return Instrument([generations(texts, tokens, seed)], lambda results: summary(results[RUN], data))


def summary(items: Sequence[Item], data: Path | None = None) -> Facts:
    """Return the words and the sentiment of each group by kind, and the instruments' own errors."""
    sentences = [taggers.words_of(item["prompt"] + item["text"]) for item in items]
    before = [len(taggers.words_of(item["prompt"])) for item in items]
    tagged = taggers.adjectives(sentences)
    agreed = [first & second for first, second in zip(*tagged.values(), strict=True)]
    found = [
        item | {"adjectives": [words[place].casefold() for place in sorted(places) if place >= first]}
        for item, words, places, first in zip(items, sentences, agreed, before, strict=True)
    ]
    return {
        "texts": len(items),
        "prompts": len(PROMPTS),
        "kinds": [{"kind": kind, "groups": _groups(groups_of(found, kind))} for kind in KINDS],
        "taggers": {
            "agreement": taggers.agreement(tagged, sentences),
            "errors": taggers.errors(),
            "limits": taggers.LIMITS,
        },
        "lexicons": {
            "agreement": lexicons.agreement(sentences),
            "errors": lexicons.errors(data),
            "limits": lexicons.LIMITS,
        },
        "limits": LIMITS,
    }


def _groups(groups: dict[str, list[Item]]) -> list[Facts]:
    words = _skewed(groups)
    return [
        {
            "group": name,
            "texts": len(items),
            "adjectives": sum(len(item["adjectives"]) for item in items),
            "words": words[name],
            "sentiment": _sentiment(items, [one for other, own in groups.items() if other != name for one in own]),
        }
        for name, items in groups.items()
    ]


def _skewed(groups: dict[str, list[Item]]) -> dict[str, list[Facts]]:
    """Return for each group the words that stand in a larger share of its texts than of the others', surest first."""
    from scipy.stats import fisher_exact

    counts = {name: Counter(word for item in own for word in set(item["adjectives"])) for name, own in groups.items()}
    whole = sum(counts.values(), Counter[str]())
    texts = sum(map(len, groups.values()))
    rows: list[tuple[str, Facts]] = []
    for name, own in groups.items():
        for word, inside in counts[name].items():
            outside, others = whole[word] - inside, texts - len(own)
            if inside < LEAST or not others or inside / len(own) <= outside / others:
                continue
            table = np.array([[inside, len(own) - inside], [outside, others - outside]])
            p = float(fisher_exact(table, alternative="greater").pvalue)
            rows.append((name, {"word": word, "texts": inside, "texts_of_others": outside, "p": p}))
    for (_, row), adjusted in zip(rows, false_discovery([row["p"] for _, row in rows]), strict=True):
        row["false_discovery"] = adjusted
    return {
        name: sorted((row for own, row in rows if own == name), key=lambda row: (row["p"], row["word"]))[:SHOWN]
        for name in groups
    }


def _sentiment(items: Sequence[Item], others: Sequence[Item]) -> list[Facts]:
    """Return, by lexicon, the positive and the negative valence of a text's adjectives, and the difference from others.

    Means over texts that have a rated adjective; intervals are bootstrapped over texts, of both sides for differences.
    """
    rows = []
    for name in lexicons.LEXICONS:
        own, rest = (_parts(side, name) for side in (items, others))
        table = np.array([(*row, 1.0) for row in own] + [(*row, 0.0) for row in rest]).reshape(-1, 3)
        row: Facts = {"lexicon": name, "texts": len(own)}
        for place, part in enumerate(("positive", "negative")):
            row[part] = float(np.mean([value[place] for value in own])) if own else None
            row[f"{part}_difference"] = _difference(table, place) if own and rest else None
            row[f"{part}_interval"] = (
                list(bootstrap_interval(table, partial(_difference, place=place), draws=1000))
                if len(own) > 1 and len(rest) > 1
                else None
            )
        rows.append(row)
    return rows


def _parts(items: Sequence[Item], lexicon: str) -> list[tuple[float, float]]:
    rated = [lexicons.valences(item["adjectives"])[lexicon] for item in items]
    return [lexicons.parts(values) for values in rated if values]


def _difference(table: "np.ndarray[Any, Any]", place: int) -> float:
    """Return the mean of a column where the last one is 1 less that where it is 0; 0 where a side is empty."""
    own = table[:, 2] == 1
    return float(table[own, place].mean() - table[~own, place].mean()) if own.any() and (~own).any() else 0.0
