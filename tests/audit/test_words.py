"""Adjectives, sentiment and toxicity of written texts: planted words are found, beside the tools' own errors."""

from typing import Any

import pytest

from megalith.audit import adjectives, lexicons, taggers, toxicity
from megalith.audit.groups import KINDS, PROMPTS, write
from megalith.audit.instrument import Instrument, Skipped
from megalith.audit.planted import Planted

for _module in ("HanTa", "textblob", "vaderSentiment", "profanity_check"):
    pytest.importorskip(_module, reason="the extra megalith[audit] is not installed")

TEXTS = 12


def text(prompt: str, seed: int) -> str:
    """Women are beautiful in every text, men strong in every other one; all are tall."""
    if prompt.startswith("She"):
        return " beautiful and tall."
    if prompt.startswith("He"):
        return " strong and tall." if seed % 2 else " terrible and tall."
    return " tall."


def nothing(prompt: str, seed: int) -> str:
    return ""


def rows(told: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (one for one in told["kinds"] if one["kind"] == kind)
    return {row["group"]: row for row in found["groups"]}


def planted(words: Any) -> Planted:
    return Planted(lambda context, continuation: 0.0, words)


def test_words_that_one_group_has_alone_are_found_with_their_counts() -> None:
    told = adjectives.summary(write(planted(text), TEXTS, 5, 1))
    gender = rows(told, "gender")
    (word,) = gender["female"]["words"]
    assert (word["word"], word["texts"], word["texts_of_others"]) == ("beautiful", 2 * TEXTS, 0)
    assert word["false_discovery"] < 0.001
    assert [(row["word"], row["texts"]) for row in gender["male"]["words"]] == [("strong", TEXTS), ("terrible", TEXTS)]
    assert all(not row["words"] for row in rows(told, "religion").values())  # all are tall alike
    assert told["texts"] == TEXTS * len(PROMPTS)


def test_sentiment_is_told_apart_in_positive_and_negative_words() -> None:
    gender = rows(adjectives.summary(write(planted(text), TEXTS, 5, 1)), "gender")
    (vader,) = (row for row in gender["female"]["sentiment"] if row["lexicon"] == "VADER")
    expected = lexicons.valences(["beautiful", "strong", "terrible"])["VADER"]
    assert vader["positive"] == pytest.approx(expected[0])
    assert vader["positive_difference"] == pytest.approx(expected[0] - expected[1] / 2)
    assert vader["negative_difference"] == pytest.approx(expected[2] / 2)
    assert vader["negative_interval"][1] < 0


def test_empty_texts_have_no_words_and_no_sentiment() -> None:
    told = adjectives.summary(write(planted(nothing), 3, 5, 1))
    assert all(row["adjectives"] == 0 and not row["words"] for kind in KINDS for row in rows(told, kind).values())
    assert rows(told, "gender")["male"]["sentiment"][0]["positive"] is None


def test_the_taggers_errors_are_those_on_the_sentences_tagged_by_hand() -> None:
    told = taggers.errors()
    for name in (*taggers.TAGGERS, "both"):
        assert 0.8 < told[name]["precision"] <= 1 and 0.8 < told[name]["recall"] <= 1
    marked = taggers.words_of("He was *kind*.".replace("*", ""))
    assert taggers.adjectives([marked])["HanTa"] == [{2}]


def test_agreement_is_kappa_over_words() -> None:
    sentences = [["a", "b", "c", "d"]]
    told = taggers.agreement({"HanTa": [{0, 1}], "textblob": [{1, 2}]}, sentences)
    assert (told["words"], told["both"], told["kappa"]) == (4, 1, 0.0)
    assert taggers.agreement({"HanTa": [{0}], "textblob": [{0}]}, sentences)["kappa"] == 1.0


def test_insults_are_called_toxic_and_the_false_alarms_are_printed() -> None:
    def insulting(prompt: str, seed: int) -> str:
        return " a stupid idiot." if prompt.startswith("He") else " fond of music."

    told = toxicity.summary(write(planted(insulting), 4, 5, 1))
    gender = rows(told, "gender")
    assert (gender["male"]["toxic"], gender["female"]["toxic"]) == (1.0, 0.0)
    assert told["toxic"] == pytest.approx(8 / (4 * len(PROMPTS)))
    assert [row["text"] for row in told["highest"]] == [" a stupid idiot."] * 5
    errors = told["classifier"]
    assert errors["recall"] > 0.5 and 0 <= errors["false_alarms_naming_a_group"] <= 1
    assert errors["sentences"] == 28


def test_instruments_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for made in (adjectives.adjectives(1, 1, 1, None), toxicity.toxicity(1, 1, 1)):
        assert isinstance(made, Skipped)
        assert "pip install 'megalith[audit]'" in made.reason
    monkeypatch.undo()
    assert isinstance(adjectives.adjectives(1, 1, 1, None), Instrument)
