"""Scores, errors and intervals against computations of another kind."""

import json
import math

import numpy as np
import pytest

from megalith.evaluation.rows import choice_rows, exact_rows, last_word_rows, perplexity_rows


def documents(count: int) -> list[dict[str, float]]:
    random = np.random.default_rng(0)
    tokens = random.integers(50, 500, count)
    return [
        {"nats": float(n * random.normal(3.0, 0.4)), "tokens": int(n), "bytes": int(n * random.normal(3.5, 0.3))}
        for n in tokens
    ]


def test_perplexity_is_per_token_and_per_byte() -> None:
    results = [{"nats": 20.0, "tokens": 10, "bytes": 40}, {"nats": 40.0, "tokens": 10, "bytes": 20}]
    token, byte, bits = perplexity_rows("perplexity", 0, results)
    assert token["score"] == pytest.approx(math.exp(60 / 20))
    assert byte["score"] == pytest.approx(math.exp(60 / 60))
    assert bits["score"] == pytest.approx(1 / math.log(2))
    assert [row["metric"] for row in (token, byte, bits)] == ["token_perplexity", "byte_perplexity", "bits_per_byte"]
    assert not any(row["higher_is_better"] for row in (token, byte, bits))


def test_standard_errors_of_perplexities_are_those_of_the_bootstrap_over_documents() -> None:
    results = documents(400)
    random = np.random.default_rng(1)
    nats, tokens, sizes = (np.array([one[key] for one in results]) for key in ("nats", "tokens", "bytes"))
    draws = random.integers(0, 400, (4000, 400))
    bootstrap = {
        "token_perplexity": np.exp(nats[draws].sum(1) / tokens[draws].sum(1)).std(),
        "byte_perplexity": np.exp(nats[draws].sum(1) / sizes[draws].sum(1)).std(),
        "bits_per_byte": (nats[draws].sum(1) / sizes[draws].sum(1)).std() / math.log(2),
    }
    for row in perplexity_rows("perplexity", 0, results):
        # 4,000 draws leave 1.1 % of noise; the delta method is of first order
        assert row["standard_error"] == pytest.approx(bootstrap[row["metric"]], rel=0.05)
        low, high = row["interval"]
        assert low < row["score"] < high


def test_accuracy_has_its_wilson_interval_and_chance() -> None:
    results = [
        {"log_probabilities": [0.0] * 4, "accuracy": float(at < 3), "accuracy_per_byte": 0.5} for at in range(10)
    ]
    total, per_byte = choice_rows("continuation", 3, results)
    assert (total["score"], total["chance"], total["documents"], total["shots"]) == (0.3, 0.25, 10, 3)
    # Wilson 1927 for 3 of 10: (0.1078, 0.6032), as in statsmodels.stats.proportion.proportion_confint
    assert total["interval"] == pytest.approx([0.10779, 0.60322], abs=1e-4)
    assert total["standard_error"] == pytest.approx(math.sqrt(0.3 * 0.7 / 9))
    assert per_byte["score"] == 0.5


def test_the_perplexity_of_last_words_is_per_word() -> None:
    results = [{"log_probability": -1.0, "greedy": True}, {"log_probability": -3.0, "greedy": False}]
    accuracy, perplexity = last_word_rows("last_word", 0, results)
    assert accuracy["score"] == 0.5
    assert perplexity["score"] == pytest.approx(math.exp(2))
    assert perplexity["standard_error"] == pytest.approx(math.exp(2) * 1.0)  # s = √2, over √2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_documents_give_plain_json_and_two_an_error(count: int) -> None:
    word = {"log_probability": -900.0, "greedy": False}
    choice = {"log_probabilities": [0.0, 0.0], "accuracy": 0.5, "accuracy_per_byte": 0.0}
    rows = [
        *perplexity_rows("perplexity", 0, [{"nats": 9e5, "tokens": 10, "bytes": 20}] * count),
        *last_word_rows("last_word", 0, [word] * count),
        *choice_rows("continuation", 0, [choice] * count),
        *exact_rows("arithmetic", 0, [{"correct": False}] * count),
    ]
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["documents"] == count
        assert (row["score"] is None) == (count == 0)
        assert (row["standard_error"] is None) == (count < 2)
        assert (row["interval"] is None) == (count < 2)
