"""Associations: planted preferences give the closed form, and the tokenizer and word frequencies give none."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from megalith.audit import association
from megalith.audit.occupations import OCCUPATIONS, read_occupations
from megalith.audit.planted import Planted, unigram
from megalith.audit.subject import LanguageSubject
from megalith.errors import InputError
from megalith.inference import LanguageModel
from megalith.tokens import train_tokenizer
from tests.inference.models import PROSE, VOCAB_SIZE, logits_of, plant

ONE_TOKEN_EACH = {"female": 1, "woman": 1, "male": 1, "man": 1}


def asked(ratios: Mapping[str, float], neutral: float = 0.0, tokens: Mapping[str, int] = ONE_TOKEN_EACH) -> list[Any]:
    """Results as `judge` gives them: the log ratio of each occupation, and one for all neutral subjects."""

    def result(subject: str, kind: str, ratio: float) -> dict[str, Any]:
        nats = {"female": -3.0 + ratio, "woman": -3.0 + ratio, "male": -3.0, "man": -3.0}
        return {"subject": subject, "kind": kind, "log_probabilities": nats, "tokens": dict(tokens)}

    results = [result(subject, "occupation", ratio) for subject, ratio in ratios.items()] + [
        result(subject, "neutral", neutral) for subject in association.NEUTRAL
    ]
    return [copy.deepcopy(one | {"prompt": prompt}) for prompt in association.PROMPTS for one in results]


def test_words_of_one_token_each_have_the_closed_form_of_their_probabilities(lm: LanguageModel) -> None:
    biases = {" female": 0.5, " woman": 2.0, " male": 1.5, " man": 2.5}
    assert all(len(lm.tokenizer.encode(word)) == 1 for word in biases)
    logits = logits_of(lm.tokenizer, biases)
    told = association.summary(association.judge(LanguageSubject(plant(lm, logits.repeat(len(logits), 1)), 1000)))
    expected = math.log(math.exp(0.5) + math.exp(2.0)) - math.log(math.exp(1.5) + math.exp(2.5))
    assert expected < 0
    assert told["mean_log_ratio"] == pytest.approx(expected, abs=1e-5)
    assert (told["male_preferred_share"], told["occupations"]) == (1.0, len(OCCUPATIONS))
    assert told["compared_words"] == ["female", "male", "woman", "man"]


def test_a_model_of_word_frequencies_alone_has_no_association_whatever_its_tokenizer(lm: LanguageModel) -> None:
    without_the_words = train_tokenizer([text.replace("female", "x").replace("woman", "y") for text in PROSE] * 3, 400)
    for tokenizer in (lm.tokenizer, without_the_words):
        logits = torch.linspace(-4, 4, VOCAB_SIZE)
        model = plant(lm, logits.repeat(len(logits), 1))
        model = type(lm)(model.model, model.config, tokenizer, model.token_bytes)
        told = association.summary(association.judge(LanguageSubject(model, 1000)))
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
    told = association.summary(association.judge(LanguageSubject(plant(lm, logits.repeat(len(logits), 1)), 1000)))
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
    for place, result in enumerate(one for one in results if (one["prompt"], one["kind"]) == ("neutral", "neutral")):
        result["log_probabilities"]["man"] += place % 2
        result["log_probabilities"]["male"] += place % 2
    low, high = association.summary(results)["log_odds_ratio_interval"]
    assert high - low == pytest.approx(2 * 1.959964 * math.sqrt(0.25 / 11), abs=1e-4)


def test_no_subject_is_counted_twice() -> None:
    subjects = OCCUPATIONS + association.NEUTRAL
    assert len(set(subjects)) == len(subjects) >= 72


def test_the_papers_ratio_of_each_prompt_is_the_closed_form_of_a_unigram_model() -> None:
    shares = {"female": 0.02, "woman": 0.05, "male": 0.04, "man": 0.10}
    told = association.summary(association.judge(Planted(unigram(shares)), OCCUPATIONS))
    for row in told["prompts"]:
        assert row["mean_log_ratio"] == pytest.approx(math.log(0.07 / 0.14), abs=1e-5)
        assert row["interval"] == pytest.approx([math.log(0.5)] * 2, abs=1e-5)
        assert (row["shift"], row["mean_log_odds_ratio"]) == pytest.approx((0, 0), abs=1e-5)


def test_a_prompt_that_moves_the_ratio_is_told_by_how_much() -> None:
    def log_probability(context: str, continuation: str) -> float:
        is_female = continuation.strip() in ("female", "woman")
        return -3.0 - (0.7 if "incompetent" in context and is_female else 0.0)

    told = association.summary(association.judge(Planted(log_probability), OCCUPATIONS))
    rows = {row["prompt"]: row for row in told["prompts"]}
    assert (rows["competent"]["shift"], rows["incompetent"]["shift"]) == pytest.approx((0, -0.7))
    assert rows["incompetent"]["male_preferred_share"] == 1.0
    assert rows["incompetent"]["mean_log_odds_ratio"] == pytest.approx(0)  # neutral subjects move with it


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# ours\nnurse\n\npilot  # flies\nCEO\n"),
        ("list.json", '["nurse", "pilot", "CEO"]'),
        ("word_lists.json", '{"profession_list": ["nurse", "pilot", "CEO"], "male_words": ["he"]}'),
        ("occupations-stats.tsv", "occupation\tbls_pct_female\nnurse\t90\npilot\t5\nCEO\t30\n"),
    ],
)
def test_occupations_are_read_from_lines_lists_and_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_occupations(tmp_path / name) == ("nurse", "pilot", "CEO")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nurse\npilot\nNurse\n", "1 of the occupations come twice.*nurse"),
        ("# nothing\n", "names no occupations"),
        ("nurse\n", "a single occupation"),
    ],
)
def test_a_list_that_would_mislead_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_occupations(tmp_path / "list.txt")
