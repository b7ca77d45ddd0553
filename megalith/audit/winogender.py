"""Winogender schemas (Rudinger et al. 2018): is a pronoun read by its gender or by the sentence?

As GPT-3 asks (§6.2.1): "{sentence} ‘She’ refers to the", with the occupation and the other participant compared by
log-likelihood. The same sentence comes with he, she and they; its right answer does not depend on the pronoun.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.audit.files import filled, find, sample
from megalith.audit.instrument import Facts, Instrument, Item, Run, Skipped
from megalith.audit.pronouns import margins
from megalith.audit.subject import Subject
from megalith.errors import InputError
from megalith.evaluation.formats import table_rows
from megalith.statistics import bootstrap_interval, clustered_interval, paired_difference

SENTENCES, SHARES = "all_sentences.tsv", "occupations-stats.tsv"
GENDERS = ("female", "male", "neutral")
CHANCE = 0.5
_PRONOUNS = {
    "female": ("she", "her", "hers", "herself"),
    "male": ("he", "his", "him", "himself"),
    "neutral": ("they", "their", "them", "theirs", "themselves"),
}


def winogender(data: Path | None, most: int, seed: int) -> Instrument | Skipped:
    """Return the instrument with at most `most` sentences, of whole occupations; Skipped without the official files."""
    files = find(data, "winogender", (SENTENCES, SHARES), "github.com/rudinger/winogender-schemas")
    if isinstance(files, Skipped):
        return files
    asked = sample(read_winogender(files[0]), most, seed, lambda one: one["occupation"])
    women = read_shares(files[1])
    return Instrument(
        [Run("winogender", lambda subject: judge(subject, asked, women))],
        lambda found: summary(found["winogender"]),
        files,
    )


def read_winogender(path: Path) -> list[dict[str, str]]:
    """Return the sentences with the fields of their names. Raises InputError for a name of another form."""
    rows = []
    for row in table_rows(path):
        name, sentence = row.text("sentid"), row.text("sentence")
        match = re.fullmatch(r"(.+)\.(.+)\.([01])\.(female|male|neutral)\.txt", name)
        if match is None:
            raise InputError(
                f"{name!r} is not occupation.participant.answer.gender.txt.",
                where=row.where,
                mend="Use the file as published.",
            )
        fields = dict(zip(("occupation", "participant", "answer", "gender"), match.groups(), strict=True))
        words = re.findall(r"\w+", sentence.casefold())
        pronoun = next((word for word in words if word in _PRONOUNS[fields["gender"]]), None)
        if pronoun is None:
            raise InputError(f"this sentence has no {fields['gender']} pronoun.", where=row.where)
        rows.append({"id": name, "sentence": sentence, "pronoun": pronoun, **fields})
    return filled(rows, path)


def read_shares(path: Path) -> dict[str, float]:
    """Return the percentage of women in each occupation (US Bureau of Labor Statistics)."""
    shares = {}
    for row in table_rows(path):
        share = row.text("bls_pct_female")
        try:
            shares[row.text("occupation")] = float(share)
        except ValueError as error:
            raise InputError(f"{share!r} is not a percentage.", where=row.where) from error
    return shares


def judge(subject: Subject, asked: Sequence[Mapping[str, str]], women: Mapping[str, float]) -> list[Item]:
    """Score both referents of each pronoun; `margin` is log P(occupation) − log P(participant), in nats."""
    items = []
    for one, margin in zip(asked, margins(subject, asked, "occupation", "participant"), strict=True):
        right = margin if one["answer"] == "0" else -margin
        items.append(
            {
                **{key: one[key] for key in ("id", "occupation", "participant", "answer", "gender")},
                "women": women.get(one["occupation"]),
                "margin": margin,
                "correct": 0.5 if right == 0 else float(right > 0),
            }
        )
    return items


def summary(items: Sequence[Mapping[str, Any]]) -> Facts:
    """Return accuracy by pronoun, on sentences where stereotype and grammar agree and differ, and what gender moves.

    Intervals take the sentences of one occupation as a cluster. `gap` is the accuracy with female pronouns less that
    with male ones in the same sentences; `pull` how much likelier a female pronoun makes the occupation than a male
    one, in nats; `pull_by_share` the rank correlation of an occupation's pull with its share of women.
    """
    by_sentence: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for item in items:
        by_sentence.setdefault(tuple(item[key] for key in ("occupation", "participant", "answer")), {})[
            item["gender"]
        ] = item
    pairs = [one for one in by_sentence.values() if {"female", "male"} <= one.keys()]
    names = [one["female"]["occupation"] for one in pairs]
    correct, margins = ([[one[g][key] for one in pairs] for g in ("male", "female")] for key in ("correct", "margin"))
    gap = paired_difference(correct[0], correct[1], names, proportion=True)
    pull = paired_difference(margins[0], margins[1], names)
    return {
        "sentences": len(items),
        "chance": CHANCE,
        "accuracy": _accuracy(items),
        "by_gender": {gender: _accuracy([i for i in items if i["gender"] == gender]) for gender in GENDERS},
        "stereotype_agrees": _accuracy([item for item in items if _agrees(item) is True]),
        "stereotype_differs": _accuracy([item for item in items if _agrees(item) is False]),
        "gap": {"difference": gap.difference, "interval": list(gap.interval), "p": gap.p},
        "pull": {"nats": pull.difference, "interval": list(pull.interval), "p": pull.p},
        "pull_by_share": _by_share(pairs),
    }


def _accuracy(items: Sequence[Mapping[str, Any]]) -> Facts:
    correct = [item["correct"] for item in items]
    if not correct:
        return {"sentences": 0, "accuracy": None, "interval": None}
    interval = clustered_interval(correct, [item["occupation"] for item in items], proportion=True)
    return {"sentences": len(correct), "accuracy": sum(correct) / len(correct), "interval": list(interval)}


def _agrees(item: Mapping[str, Any]) -> bool | None:
    """Whether the pronoun has the gender of most people in the occupation, where the occupation is the answer, or the
    other one, where it is not ("gotcha" sentences are the others). None for they, and for a share of one half."""
    if item["gender"] == "neutral" or item["women"] in (None, 50.0):
        return None
    fits = (item["women"] > 50) == (item["gender"] == "female")
    return bool(fits == (item["answer"] == "0"))


def _by_share(pairs: Sequence[Mapping[str, Mapping[str, Any]]]) -> Facts | None:
    import numpy as np
    from scipy.stats import spearmanr

    pulls: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    for one in pairs:
        if one["female"]["women"] is not None:
            name = one["female"]["occupation"]
            shares[name] = one["female"]["women"]
            pulls.setdefault(name, []).append(one["female"]["margin"] - one["male"]["margin"])
    rows = [(shares[name], sum(own) / len(own)) for name, own in pulls.items()]
    if len(rows) < 3 or len({pull for _, pull in rows}) == 1:
        return None

    def correlation(table: "np.ndarray[Any, Any]") -> float:
        if min(len(set(table[:, 0])), len(set(table[:, 1]))) == 1:
            return 0.0
        return float(spearmanr(table[:, 0], table[:, 1]).statistic)

    return {
        "occupations": len(rows),
        "rank_correlation": correlation(np.array(rows)),
        "interval": list(bootstrap_interval(rows, correlation, draws=1000)),
    }
