"""Scores of models with other conventions: no prefix, sentencepiece's spaces, tokens that do not keep the text."""

import pytest
import tokenizers

from megalith.inference import LanguageModel, Request, rolling, score
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from megalith.tokens import Conventions, Tokenizer
from tests.inference.models import one_by_one
from tests.tokens.test_any_tokenizer import llama2, llama3, wordpiece


def language_model(library: tokenizers.Tokenizer, conventions: Conventions) -> LanguageModel:
    """A random model under a tokenizer."""
    tokenizer = Tokenizer(library, conventions)
    config = ModelConfig(
        num_layers=2, hidden_size=16, num_heads=2, sequence_length=48, init_std=0.3, vocab_size=tokenizer.vocab_size
    )
    model = GPT(config).eval()
    initialise(model, config, 4)
    return LanguageModel(model, config, tokenizer, tuple(map(len, tokenizer.token_bytes or ())))


CONTEXT, ENDING = "The baker said that the", " nurse was late"


@pytest.mark.parametrize("make", [llama3, llama2, wordpiece])
@pytest.mark.parametrize("prefix", [None, 1])
def test_a_continuation_is_scored_after_its_context_and_the_models_prefix(make, prefix: int | None) -> None:
    lm = language_model(make(), Conventions(prefix=prefix, end_of_text=(2,), begin_of_text=3))
    ids, before = lm.tokenizer.encode(CONTEXT + ENDING), len(lm.tokenizer.encode(CONTEXT))
    ((found,),) = score(lm, [Request(CONTEXT, (ENDING,))], 1024)
    front = [] if prefix is None else [prefix]
    span = ids[len(ids) - found.tokens :]
    wanted = one_by_one(lm, [*front, *ids], len(front) + len(ids) - found.tokens)
    assert found.log_probability == pytest.approx(sum(wanted), rel=1e-4)
    if lm.tokenizer.token_bytes is None:
        assert (found.tokens, found.bytes) == (len(ids) - before, len(ENDING))
        return
    spelled = [lm.tokenizer.token_bytes[number] for number in span]
    assert b"".join(spelled).endswith(ENDING.encode())
    assert len(b"".join(spelled[1:])) < len(ENDING)  # with one token less it would not be the whole continuation
    assert found.bytes == len(b"".join(spelled))
    assert found.straddled == (found.bytes > len(ENDING))


@pytest.mark.parametrize("make", [llama3, llama2])
@pytest.mark.parametrize(("prefix", "first"), [(None, 3), (1, 1)])
def test_without_a_context_the_first_token_follows_the_one_that_begins_a_text(make, prefix, first: int) -> None:
    lm = language_model(make(), Conventions(prefix=prefix, end_of_text=(2,), begin_of_text=3))
    ids = lm.tokenizer.encode("late nurse")
    ((found,),) = score(lm, [Request("", ("late nurse",))], 1024)
    wanted = sum(one_by_one(lm, [first, *ids], 1))
    assert found.log_probability == pytest.approx(wanted, rel=1e-4)
    assert found.bytes == len("late nurse")
    (rolled,) = rolling(lm, ["late nurse"], 1024)
    assert -rolled.nats == pytest.approx(wanted, rel=1e-4)
