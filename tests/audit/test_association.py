"""Associations: planted preferences give the closed form, and the tokenizer and word frequencies give none."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from megalith.audit import association
from megalith.inference import LanguageModel
from megalith.tokens import train_tokenizer
from tests.inference.models import PROSE, VOCAB_SIZE, logits_of, plant

ONE_TOKEN_EACH = {"female": 1, "woman": 1, "male": 1, "man": 1}


def ignore(done: int, total: int) -> None: ...


def asked(ratios: Mapping[str, float], neutral: float = 0.0, tokens: Mapping[str, int] = ONE_TOKEN_EACH) -> list[Any]:
    """Results as `judge` gives them: the log ratio of each occupation, and one for all neutral subjects."""

    def result(subject: str, kind: str, ratio: float) -> dict[str, Any]:
        nats = {"female": -3.0 + ratio, "woman": -3.0 + ratio, "male": -3.0, "man": -3.0}
        return {"subject": subject, "kind": kind, "log_probabilities": nats, "tokens": dict(tokens)}

    return [result(subject, "occupation", ratio) for subject, ratio in ratios.items()] + [
        result(subject, "neutral", neutral) for subject in association.NEUTRAL
    ]


def test_words_of_one_token_each_have_the_closed_form_of_their_probabilities(lm: LanguageModel) -> None:
    biases = {" female": 0.5, " woman": 2.0, " male": 1.5, " man": 2.5}
    assert all(len(lm.tokenizer.encode(word)) == 1 for word in biases)
    logits = logits_of(lm.tokenizer, biases)
    told = association.summary(association.judge(plant(lm, logits.repeat(len(logits), 1)), 1000, ignore))
    expected = math.log(math.exp(0.5) + math.exp(2.0)) - math.log(math.exp(1.5) + math.exp(2.5))
    assert expected < 0
    assert told["mean_log_ratio"] == pytest.approx(expected, abs=1e-5)
    assert (told["male_preferred_share"], told["occupations"]) == (1.0, len(association.OCCUPATIONS))
    assert told["compared_words"] == ["female", "male", "woman", "man"]


def test_a_model_of_word_frequencies_alone_has_no_association_whatever_its_tokenizer(lm: LanguageModel) -> None:
    without_the_words = train_tokenizer([text.replace("female", "x").replace("woman", "y") for text in PROSE] * 3, 400)
    for tokenizer in (lm.tokenizer, without_the_words):
        logits = torch.linspace(-4, 4, VOCAB_SIZE)
        model = plant(lm, logits.repeat(len(logits), 1))
        model = type(lm)(model.model, model.config, tokenizer, model.token_bytes)
        told = association.summary(association.judge(model, 1000, ignore))
        assert told["mean_log_odds_ratio"] == pytest.approx(0, abs=1e-5)
        assert "not told apart from neutral subjects" in told["note"]


def test_words_of_different_numbers_of_tokens_are_not_compared_by_themselves() -> None:
    results = asked({"nurse": -9.9, "pilot": -9.8}, -9.85, {"female": 4, "woman": 2, "male": 2, "man": 1})
    told = association.summary(results)
    nothing = ("mean_log_ratio", "interval", "male_preferred_share", "male_preferred_interval", "standard_error")
    assert [told[name] for name in nothing] == [None] * 5
    assert told["compared_words"] == []
    assert all(row["log_ratio"] is None for row in told["rows"])
    assert told["mean_log_odds_ratio"] == pytest.approx(0, abs=1e-6)
    assert "“female” 4, “woman” 2, “male” 2, “man” 1" in told["note"]


def test_a_pair_of_equally_many_tokens_is_compared_alone() -> None:
    results = asked({"nurse": 1.0, "pilot": 1.0}, 0.0, {"female": 2, "woman": 1, "male": 1, "man": 1})
    for result in results:
        result["log_probabilities"]["female"] = -50.0
    told = association.summary(results)
    assert told["compared_words"] == ["woman", "man"]
    assert told["mean_log_ratio"] == pytest.approx(1.0)
    assert "compares “woman” with “man” alone" in told["note"]


def test_unlikely_words_do_not_underflow(lm: LanguageModel) -> None:
    logits = logits_of(lm.tokenizer, {" female": -2000.0, " woman": -2000.0, " male": -1000.0, " man": -1000.0})
    told = association.summary(association.judge(plant(lm, logits.repeat(len(logits), 1)), 1000, ignore))
    assert told["mean_log_ratio"] == pytest.approx(-1000.0)


def test_the_odds_are_those_of_an_occupation_less_those_of_neutral_subjects() -> None:
    told = association.summary(asked({"a": -1.0, "b": -0.5, "c": 0.0, "d": 1.0}, neutral=-2.0))
    assert told["mean_log_odds_ratio"] == pytest.approx(-0.125 + 2.0)
    ratios = (-1.0, -0.5, 0.0, 1.0)
    assert told["log_odds_ratio_standard_error"] == pytest.approx(
        math.sqrt(sum((r + 0.125) ** 2 for r in ratios) / 3 / 4)
    )
    assert [row["log_odds_ratio"] for row in told["rows"]] == pytest.approx([1.0, 1.5, 2.0, 3.0])
    assert "towards the female words by +1.88 nats" in told["note"]
    assert told["male_preferred_share"] == 2.5 / 4
    assert told["mean_log_ratio"] == -0.125


def test_differing_neutral_subjects_widen_the_interval() -> None:
    results = asked({"a": 0.5, "b": 0.5})
    for place, result in enumerate(one for one in results if one["kind"] == "neutral"):
        result["log_probabilities"]["man"] += place % 2
        result["log_probabilities"]["male"] += place % 2
    low, high = association.summary(results)["log_odds_ratio_interval"]
    assert high - low == pytest.approx(2 * 1.959964 * math.sqrt(0.25 / 11), abs=1e-4)


def test_no_subject_is_counted_twice() -> None:
    subjects = association.OCCUPATIONS + association.NEUTRAL
    assert len(set(subjects)) == len(subjects) >= 72
