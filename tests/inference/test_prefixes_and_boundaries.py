"""The text that stands in front, and the end of a context, as users choose them."""

import dataclasses

import pytest

from megalith.errors import InputError
from megalith.inference import LanguageModel, Request, rolling, score
from megalith.inference.spans import in_front, spans_of
from megalith.tokens.conventions import Conventions
from megalith.tokens.tokenizer import Tokenizer
from tests.inference.models import one_by_one

FP32 = 1e-4


def with_conventions(lm: LanguageModel, **given: object) -> LanguageModel:
    tokenizer = Tokenizer(lm.tokenizer._model, Conventions.model_validate({"end_of_text": (5,)} | given))
    return dataclasses.replace(lm, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("prefix", "given", "in_text", "at_its_start"),
    [
        ("auto", {"prefix": 3}, [3], [3]),
        ("auto", {"prefix": None, "begin_of_text": 4}, [], [4]),
        ("none", {"prefix": 3}, [], [3]),
        ("none", {"prefix": None, "begin_of_text": 4}, [], [4]),
        ("bos", {"prefix": None, "begin_of_text": 4}, [4], [4]),
        ("bos", {"prefix": None}, [5], [5]),
        ("eot", {"prefix": 3, "separator": 6}, [6], [6]),
        ("eot", {"prefix": None}, [5], [5]),
    ],
)
def test_what_stands_in_front(
    lm: LanguageModel, prefix: str, given: dict[str, object], in_text: list[int], at_its_start: list[int]
) -> None:
    lm = with_conventions(lm, **given)
    assert in_front(lm, prefix, scores_first=False) == in_text
    assert in_front(lm, prefix, scores_first=True) == at_its_start
    for context, front in (("The nurse", in_text), ("", at_its_start)):
        ((found,),) = score(lm, [Request(context, (" said",))], 100, prefix=prefix)
        ids = [*front, *lm.tokenizer.encode(f"{context} said")]
        first = len(front) + len(lm.tokenizer.encode(context))
        assert found.log_probability == pytest.approx(sum(one_by_one(lm, ids, first)), abs=FP32)


def test_lm_evals_boundary_is_as_many_tokens_as_the_context_alone_has(lm: LanguageModel) -> None:
    encode = lm.tokenizer.encode
    for context, continuation, alone in [
        ("The nurse", " said so", "The nurse"),
        ("The nurse ", "said so", "The nurse"),  # white space of the context belongs to the continuation
        ("The nurse\n\n", "said so", "The nurse"),
        ("  ", "said so", ""),
    ]:
        (span,) = spans_of(lm, [Request(context, (continuation,))], "none", "lm_eval")
        front = [] if alone else [lm.tokenizer.first]
        assert span.ids.tolist() == [*front, *encode(context + continuation)]
        assert span.first == len(front) + len(encode(alone))
        assert not span.straddled


def test_lm_evals_boundary_scores_a_token_even_where_it_merges_with_the_context(lm: LanguageModel) -> None:
    whole = lm.tokenizer.encode("the nurse was a woman")
    assert len(lm.tokenizer.encode("the nurse was a wom")) >= len(whole)
    (span,) = spans_of(lm, [Request("the nurse was a wom", ("an",))], "none", "lm_eval")
    assert span.ids.tolist() == whole
    assert (span.first, span.straddled) == (len(whole) - 1, True)


def test_a_continuation_without_tokens_is_refused(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm.tokenizer, "encode_batch", lambda texts: [[] for _ in texts])
    with pytest.raises(InputError, match="no tokens for"):
        score(lm, [Request("", (" ",))], 100)


def test_megatrons_windows_score_the_last_targets_of_each(lm: LanguageModel) -> None:
    """The first window scores all but its first token, each later one its last four, from a start four tokens on."""
    text = "The nurse laughed at the pilot, and the pilot at the nurse. " * 3
    limit, stride = lm.config.sequence_length, 4
    ids = lm.tokenizer.encode(text)
    wanted = sum(one_by_one(lm, ids[: limit + 1], 1))
    scored = limit
    for start in range(stride, len(ids), stride):
        window = ids[start : start + limit + 1]
        targets = window[limit - stride + 1 :]
        wanted += sum(one_by_one(lm, window, limit - stride + 1)) if targets else 0.0
        scored += len(targets)
    (found,) = rolling(lm, [text], 1000, stride, protocol="megatron")
    assert found.tokens == scored == len(ids) - 1
    assert found.nats == pytest.approx(-wanted, abs=10 * FP32)
