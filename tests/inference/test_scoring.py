"""Scores against an oracle that reads one prefix at a time, in float64."""

import dataclasses
import itertools
import math

import pytest
import torch

from megalith.inference import LanguageModel, Request, rolling, score
from tests.inference.models import VOCAB_SIZE, one_by_one, plant

FP32 = 1e-4  # ten-odd tokens of fp32 logits of size ~10 against float64
REQUESTS = [
    Request("The baker said that the", (" nurse was a woman", " pilot", " 石は重い。")),
    Request("", ("Is it True",)),
    Request("Q: What is 12 plus 30?\nA:", (" 42", " 43")),
    Request("Naïve visitors ask: “How?” The answer isn't", (" secret. 😀",)),
]


def test_a_score_is_the_sum_of_its_tokens_log_probabilities(lm: LanguageModel) -> None:
    for request, scores in zip(REQUESTS, score(lm, REQUESTS, 10_000), strict=True):
        before = 1 + len(lm.tokenizer.encode(request.context))
        for continuation, found in zip(request.continuations, scores, strict=True):
            ids = [0, *lm.tokenizer.encode(request.context + continuation)]
            assert found.tokens == len(ids) - before
            assert found.log_probability == pytest.approx(sum(one_by_one(lm, ids, before)), abs=FP32)
            assert (found.bytes, found.characters) == (len(continuation.encode()), len(continuation))
            assert not found.truncated and not found.straddled


def test_a_score_does_not_depend_on_what_it_was_batched_with(lm: LanguageModel) -> None:
    together = score(lm, REQUESTS, 10_000)
    apart = [score(lm, [request], 1)[0] for request in REQUESTS]
    backwards = score(lm, REQUESTS[::-1], 60)[::-1]
    for one, two, three in zip(together, apart, backwards, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert a.log_probability == pytest.approx(b.log_probability, abs=1e-5)
            assert a.log_probability == pytest.approx(c.log_probability, abs=1e-5)


def test_padded_columns_of_the_vocabulary_have_no_share(lm: LanguageModel) -> None:
    table = torch.zeros(512, 512)
    table[:, VOCAB_SIZE:] = 50.0
    ((found,),) = score(plant(lm, table), [Request("", ("Is",))], 100)
    assert found.log_probability == pytest.approx(-found.tokens * math.log(VOCAB_SIZE), abs=1e-5)


def test_greedy_means_that_every_token_is_the_first_choice(lm: LanguageModel) -> None:
    ids = [0, *lm.tokenizer.encode("The baker laughed at")]
    table = torch.zeros(VOCAB_SIZE, VOCAB_SIZE)
    for before, after in itertools.pairwise(ids):
        table[before, after] = 3.0
    sure = plant(lm, table)
    ((right, wrong),) = score(sure, [Request("The baker", (" laughed at", " laughed to"))], 100)
    assert right.tokens > 1
    assert right.greedy and not wrong.greedy
    expected = right.tokens * (3.0 - math.log(VOCAB_SIZE - 1 + math.exp(3.0)))
    assert right.log_probability == pytest.approx(expected, abs=1e-5)


def test_a_token_that_spans_the_join_is_scored_whole_and_counted(lm: LanguageModel) -> None:
    """ "wom" + "an": the text is tokenised as "… woman", and the score backs up to where " woman" begins."""
    whole = [0, *lm.tokenizer.encode("the nurse was a woman")]
    before = 1 + len(lm.tokenizer.encode("the nurse was a"))
    ((found,),) = score(lm, [Request("the nurse was a wom", ("an",))], 100)
    assert found.straddled
    assert (found.tokens, found.bytes) == (len(whole) - before, len(" woman"))
    assert found.log_probability == pytest.approx(sum(one_by_one(lm, whole, before)), abs=FP32)


def test_all_continuations_of_a_request_are_scored_from_one_boundary(lm: LanguageModel) -> None:
    ((spans, does_not),) = score(lm, [Request("the nurse was a wom", ("an", "Q"))], 100)
    assert spans.straddled and does_not.straddled
    before = 1 + len(lm.tokenizer.encode("the nurse was a"))
    ids = [0, *lm.tokenizer.encode("the nurse was a womQ")]
    assert does_not.log_probability == pytest.approx(sum(one_by_one(lm, ids, before)), abs=FP32)


def test_a_long_context_is_cut_from_the_left_and_counted(lm: LanguageModel) -> None:
    limit = lm.config.sequence_length
    context = "The nurse laughed at the pilot. " * 10
    ((found,),) = score(lm, [Request(context, ("True",))], 100)
    ids = lm.tokenizer.encode(context + "True")[-limit - 1 :]
    assert found.truncated
    assert found.log_probability == pytest.approx(sum(one_by_one(lm, ids, len(ids) - found.tokens)), abs=FP32)


def test_a_continuation_longer_than_the_context_is_scored_to_its_end(lm: LanguageModel) -> None:
    """Under a bigram model no window can matter, so any cut gives the sum over the whole."""
    text = " laughed at the pilot, and so on" * 12
    table = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    bigram = plant(lm, table)
    ids = [0, *lm.tokenizer.encode("The nurse" + text)]
    before = 1 + len(lm.tokenizer.encode("The nurse"))
    expected = sum(float(table.double().log_softmax(-1)[a, b]) for a, b in itertools.pairwise(ids[before - 1 :]))
    ((found,),) = score(bigram, [Request("The nurse", (text,))], 100)
    assert found.tokens == len(ids) - before > lm.config.sequence_length
    assert found.log_probability == pytest.approx(expected, rel=1e-6)


def test_an_empty_continuation_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Request("The", ("",))


@pytest.mark.parametrize("stride", [1, 5, 24, 32])
def test_windows_score_each_token_once(lm: LanguageModel, stride: int) -> None:
    text = "The nurse laughed at the pilot, and the pilot at the nurse. " * 6
    table = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    ids = [0, *lm.tokenizer.encode(text)]
    expected = -sum(float(table.double().log_softmax(-1)[a, b]) for a, b in itertools.pairwise(ids))
    (found,) = rolling(plant(lm, table), [text], 100, stride)
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert (found.tokens, found.bytes) == (len(ids) - 1, len(text.encode()))


def test_a_stride_of_one_gives_every_token_all_the_context_there_is(lm: LanguageModel) -> None:
    text = "The nurse laughed at the pilot, and the pilot at the nurse. " * 3
    limit = lm.config.sequence_length
    ids = [0, *lm.tokenizer.encode(text)]
    assert len(ids) > limit + 1
    full = [
        one_by_one(lm, ids[max(0, place - limit) : place + 1], min(place, limit))[0] for place in range(1, len(ids))
    ]
    (found,) = rolling(lm, [text], 1000, stride=1)
    assert found.nats == pytest.approx(-sum(full), abs=10 * FP32)


def test_documents_are_rolled_in_order_and_an_empty_one_has_nothing(lm: LanguageModel) -> None:
    texts = ["The baker. " * 20, "", "😀", "Is it True?"]
    found = rolling(lm, texts, 64)
    assert [one.bytes for one in found] == [len(text.encode()) for text in texts]
    assert (found[1].nats, found[1].tokens) == (0.0, 0)
    assert found[3] == dataclasses.replace(rolling(lm, texts[3:], 64)[0], nats=pytest.approx(found[3].nats, abs=1e-5))


def test_the_spelling_of_the_end_of_text_token_is_plain_text(lm: LanguageModel) -> None:
    (found,) = rolling(lm, ["<|endoftext|>"], 64)
    assert found.tokens > 1


def test_a_lone_surrogate_does_not_break_a_score(lm: LanguageModel) -> None:
    ((found,),) = score(lm, [Request("a \ud800", (" b\udc00",))], 64)
    assert math.isfinite(found.log_probability)


def test_progress_is_told_after_each_pass_up_to_the_whole(lm: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    score(lm, REQUESTS, 1, lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (len(REQUESTS), len(REQUESTS)) and len(told) > 2
    told.clear()
    rolling(lm, ["The baker. " * 40, ""], 1, advance=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and len(told) > 2 and told[-1][0] == told[-1][1]
