"""Scores, errors and intervals against computations of another kind."""

import json
import math

import numpy as np
import pytest

from megalith.evaluation.rows import Row, by_field, rows_of

FORMS = ("continuation",)


def documents(count: int) -> list[dict[str, float]]:
    random = np.random.default_rng(0)
    tokens = random.integers(50, 500, count)
    return [
        {"nats": float(n * random.normal(3.0, 0.4)), "tokens": int(n), "bytes": int(n * random.normal(3.5, 0.3))}
        for n in tokens
    ]


def test_perplexity_is_per_token_and_per_byte() -> None:
    results = [{"nats": 20.0, "tokens": 10, "bytes": 40}, {"nats": 40.0, "tokens": 10, "bytes": 20}]
    token, byte, bits = rows_of("perplexity", "perplexity", 0, results, FORMS)
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
    for row in rows_of("perplexity", "perplexity", 0, results, FORMS):
        # 4,000 draws leave 1.1 % of noise; the delta method is of first order
        assert row["standard_error"] == pytest.approx(bootstrap[row["metric"]], rel=0.05)
        low, high = row["interval"]
        assert low < row["score"] < high


def choice(accuracy: float, *, per_byte: float = 0.5, tied: tuple[str, ...] = (), **more: object) -> dict[str, object]:
    metrics = {"accuracy_per_token": accuracy, "accuracy_per_byte": per_byte, "accuracy_per_character": accuracy}
    return {"log_probabilities": [0.0] * 4, "accuracy": accuracy, **metrics, "tied": list(tied), **more}


def test_accuracy_has_its_wilson_interval_and_chance() -> None:
    results = [choice(float(at < 3)) for at in range(10)]
    total, _, per_byte, _ = rows_of("choice", "continuation", 3, results, FORMS)
    assert (total["score"], total["chance"], total["documents"], total["shots"]) == (0.3, 0.25, 10, 3)
    # Wilson 1927 for 3 of 10: (0.1078, 0.6032), as in statsmodels.stats.proportion.proportion_confint
    assert total["interval"] == pytest.approx([0.10779, 0.60322], abs=1e-4)
    assert total["standard_error"] == pytest.approx(math.sqrt(0.3 * 0.7 / 9))
    assert total["centred"] == pytest.approx((0.3 - 0.25) / 0.75)
    assert (per_byte["metric"], per_byte["score"]) == ("accuracy_per_byte", 0.5)


def test_questions_of_one_passage_are_one_cluster() -> None:
    """Four questions of a passage that are right or wrong together say no more than one."""
    alone = [choice(float(at % 2)) for at in range(10)]
    together = [choice(float(at % 2), group=f"passage {at}") for at in range(10) for _ in range(4)]
    one, four = (rows_of("choice", "race", 0, results, FORMS)[0] for results in (alone, together))
    assert (four["documents"], four["clusters"], one["clusters"]) == (40, 10, 10)
    assert four["standard_error"] == pytest.approx(one["standard_error"])


def test_where_most_items_tie_there_is_no_score_and_the_reason() -> None:
    results = [choice(0.25, tied=("accuracy",) * (at < 6)) for at in range(10)]
    total, per_token, *_ = rows_of("choice", "task", 0, results, FORMS)
    assert (total["score"], total["interval"], total["ties"]) == (None, None, 6)
    assert "6 of 10 items have two or more choices that score best alike" in total["note"]
    assert (per_token["score"], per_token["ties"], per_token["note"]) == (0.25, 0, None)


def test_scores_are_broken_down_by_field() -> None:
    results = [choice(float(at % 4 == 0), fields={"subject": "ab"[at % 2]}) for at in range(8)]
    rows = rows_of("choice", "mmlu", 5, results, FORMS)
    found = {one["value"]: (one["score"], one["documents"]) for one in by_field(rows, results, ("subject",))}
    assert found == {"a": (0.5, 4), "b": (0.0, 4)}


def test_perplexity_per_word_is_per_word_of_the_text_as_it_was() -> None:
    blocks = [
        {"nats": 20.0, "tokens": 10, "bytes": 40, "words": 8},
        {"nats": 44.0, "tokens": 12, "bytes": 20, "words": 8},
    ]
    word, *_ = rows_of("perplexity", "wikitext2", 0, blocks, FORMS)
    assert (word["metric"], word["score"]) == ("word_perplexity", pytest.approx(math.exp(64 / 16)))


def test_the_perplexity_of_last_words_is_per_word() -> None:
    results = [{"log_probability": -1.0, "greedy": True}, {"log_probability": -3.0, "greedy": False}]
    accuracy, perplexity = rows_of("last_word", "last_word", 0, results, FORMS)
    assert accuracy["score"] == 0.5
    assert perplexity["score"] == pytest.approx(math.exp(2))
    assert perplexity["standard_error"] == pytest.approx(math.exp(2) * 1.0)  # s = √2, over √2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_documents_give_plain_json_and_two_an_error(count: int) -> None:
    word = {"log_probability": -900.0, "greedy": False}
    rows: list[Row] = [
        *rows_of("perplexity", "perplexity", 0, [{"nats": 9e5, "tokens": 10, "bytes": 20}] * count, FORMS),
        *rows_of("last_word", "last_word", 0, [word] * count, FORMS),
        *rows_of("choice", "continuation", 0, [choice(0.5)] * count, FORMS),
        *rows_of("generate", "arithmetic", 0, [{"correct": False}] * count, FORMS),
    ]
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["documents"] == count
        assert (row["score"] is None) == (count == 0)
        assert (row["standard_error"] is None) == (count < 2)
        assert (row["interval"] is None) == (count < 2)
