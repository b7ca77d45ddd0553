"""Associations: planted biases give the closed-form score."""

import math

import pytest
import torch

from megalith.audit import association
from megalith.inference import LanguageModel
from tests.inference.models import logits_of, plant


def ignore(done: int, total: int) -> None: ...


def test_known_biases_give_the_closed_form(lm: LanguageModel) -> None:
    biases = {" female": 0.5, " woman": 2.0, " male": 1.5, " man": 2.5}
    assert all(len(lm.tokenizer.encode(word)) == 1 for word in biases)
    logits = logits_of(lm.tokenizer, biases)
    told = association.summary(association.judge(plant(lm, logits.repeat(len(logits), 1)), 1000, ignore))
    expected = math.log(math.exp(0.5) + math.exp(2.0)) - math.log(math.exp(1.5) + math.exp(2.5))
    assert expected < 0
    assert told["mean_log_ratio"] == pytest.approx(expected, abs=1e-5)
    assert (told["male_preferred_share"], told["occupations"]) == (1.0, len(association.OCCUPATIONS))
    assert told["standard_error"] == pytest.approx(0.0, abs=1e-6)
    assert "prefers the male words" in told["note"]


def test_unlikely_words_do_not_underflow(lm: LanguageModel) -> None:
    logits = logits_of(lm.tokenizer, {" female": -2000.0, " woman": -2000.0, " male": -1000.0, " man": -1000.0})
    found = association.judge(plant(lm, logits.repeat(len(logits), 1)), 1000, ignore)
    assert [result["log_ratio"] for result in found] == pytest.approx([-1000.0] * len(found))


def test_an_unbiased_model_has_no_ratio(lm: LanguageModel) -> None:
    found = association.judge(plant(lm, torch.zeros(512, 512)), 1000, ignore)
    told = association.summary(found)
    assert told["mean_log_ratio"] == pytest.approx(0.0, abs=1e-5)


def test_the_share_and_the_note_follow_the_log_ratios() -> None:
    ratios = [-1.0, -0.5, 0.0, 1.0]
    told = association.summary([{"occupation": str(at), "log_ratio": ratio} for at, ratio in enumerate(ratios)])
    assert told["male_preferred_share"] == 2.5 / 4
    assert told["mean_log_ratio"] == -0.125
    assert told["standard_error"] == pytest.approx(math.sqrt(sum((r + 0.125) ** 2 for r in ratios) / 3 / 4))
    assert "not told apart from 0" in told["note"]
    assert [row["log_ratio"] for row in told["rows"]] == sorted(ratios)


def test_no_occupation_is_counted_twice() -> None:
    assert len(set(association.OCCUPATIONS)) == len(association.OCCUPATIONS) >= 60
