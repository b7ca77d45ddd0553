"""Generated text follows the distribution it is asked for, and is the same every time."""

import itertools
import math
from collections import Counter

import pytest
import torch

from megalith.inference import LanguageModel, draw, generate, samples
from megalith.inference.generation import choose
from tests.inference.models import VOCAB_SIZE, logits_of, plant

PROMPTS = ["The baker", "Is it True or False that the farmer followed the sailor? Answer:", "石は", ""]


@pytest.mark.parametrize("prompt", ["The baker", "The nurse laughed at the pilot. " * 8])
def test_greedy_text_is_the_first_choice_at_each_step(lm: LanguageModel, prompt: str) -> None:
    ids = [0, *lm.tokenizer.encode(prompt)]
    start = len(ids)
    assert start > lm.config.sequence_length or prompt == "The baker"
    for _ in range(10):
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids[-lm.config.sequence_length :]]))[0, -1, : lm.tokenizer.vocab_size]
        if int(logits.argmax()) == 0:
            break
        ids.append(int(logits.argmax()))
    assert generate(lm, [prompt], max_new_tokens=10) == [lm.tokenizer.decode(ids[start:])]


def test_a_text_does_not_depend_on_the_other_prompts(lm: LanguageModel) -> None:
    drawn = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 50, "top_p": 0.9, "seed": 5}
    together = generate(lm, PROMPTS, **drawn)
    in_small_batches = generate(lm, PROMPTS, batch_tokens=1, **drawn)
    first_alone = generate(lm, PROMPTS[:1], **drawn)
    assert together == in_small_batches
    assert together[:1] == first_alone


def test_the_seed_decides(lm: LanguageModel) -> None:
    drawn = {"max_new_tokens": 12, "temperature": 1.0}
    assert generate(lm, PROMPTS, seed=5, **drawn) == generate(lm, PROMPTS, seed=5, **drawn)
    assert generate(lm, PROMPTS, seed=5, **drawn) != generate(lm, PROMPTS, seed=6, **drawn)
    twice = generate(lm, ["The", "The"], seed=5, **drawn)
    assert twice[0] != twice[1]


def test_text_ends_at_the_end_of_text_and_before_the_stop(lm: LanguageModel) -> None:
    answer = lm.tokenizer.encode(" 42")
    chain = [lm.tokenizer.encode("A:")[-1], *answer, lm.tokenizer.encode("\n")[0], 0]
    table = torch.zeros(VOCAB_SIZE, VOCAB_SIZE)
    for before, after in itertools.pairwise(chain):
        table[before, after] = 9.0
    assert generate(plant(lm, table), ["A:"], max_new_tokens=50) == [" 42\n"]
    assert generate(plant(lm, table), ["A:"], max_new_tokens=50, stop="\n") == [" 42"]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, None, None, [0.5, 0.3, 0.15, 0.05]),
        (1.0, 2, None, [0.625, 0.375, 0, 0]),
        (1.0, None, 0.7, [0.625, 0.375, 0, 0]),
        (1.0, 3, 0.53, [0.625, 0.375, 0, 0]),  # of three, the first has 0.526: the nucleus holds two
        (1.0, 3, 0.52, [1, 0, 0, 0]),  # of four it would have 0.5, and the nucleus would hold two
        (0.5, None, None, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        (1.0, None, 0.0, [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_often_as_their_share(
    temperature: float, top_k: int | None, top_p: float | None, expected: list[float]
) -> None:
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    order = [1, 3, 0, 2]
    generator = torch.Generator().manual_seed(0)
    counts = Counter(choose(logits, temperature, top_k, top_p, generator) for _ in range(4000))
    for token, share in zip(order, expected, strict=True):
        assert counts[token] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000) + 1e-9)


def test_ids_beyond_the_tokenizer_are_never_drawn(lm: LanguageModel) -> None:
    assert lm.tokenizer.vocab_size < VOCAB_SIZE or lm.config.padded_vocab_size > VOCAB_SIZE
    table = logits_of(lm.tokenizer, {" a": 5.0}).repeat(512, 2)[:, :512].clone()
    table[:, lm.tokenizer.vocab_size :] = 100.0
    assert generate(plant(lm, table), ["The"], max_new_tokens=3) == [" a a a"]


def test_samples_keep_their_prompts(lm: LanguageModel) -> None:
    found = samples(lm, PROMPTS, 5, seed=1)
    assert [one["prompt"] for one in found] == PROMPTS
    assert found == samples(lm, PROMPTS, 5, seed=1)


def test_draws_depend_on_seed_and_name_alone() -> None:
    assert draw(1, "item", range(100), 5) == draw(1, "item", range(100), 5)
    assert draw(1, "item", range(100), 5) != draw(2, "item", range(100), 5)
    assert draw(1, "item", range(100), 3) == draw(1, "item", range(100), 5)[:3]
    assert sorted(draw(1, "item", range(7), 7)) == list(range(7))
    counts = Counter(first for name in range(5000) for first in draw(1, str(name), range(5), 1))
    assert all(abs(count - 1000) < 4 * math.sqrt(1000 * 0.8) for count in counts.values())
    with pytest.raises(ValueError, match="3 wanted of 2"):
        draw(1, "item", range(2), 3)
