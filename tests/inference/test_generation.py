"""Generated text follows the distribution it is asked for, and is the same every time."""

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import InputError
from megalith.inference import LanguageModel, Request, draw, generate, samples, score, tokens_cut
from tests.inference.models import VOCAB_SIZE, logits_of, plant

PROMPTS = ["The baker", "Is it True or False that the farmer followed the sailor? Answer:", "石は", ""]


@pytest.mark.parametrize("prompt", ["The baker", "The nurse laughed at the pilot. " * 8])
def test_greedy_text_is_the_first_choice_at_each_step(lm: LanguageModel, prompt: str) -> None:
    """A text that reaches the end of the context goes on with its last half, or more if fewer tokens are left."""
    context, tokens = lm.config.sequence_length, 40
    ids = lm.tokenizer.with_prefix(lm.tokenizer.encode(prompt))
    start = len(ids)
    assert start > context or prompt == "The baker"
    begin = 0 if start <= context else start - max(context + 1 - tokens, context // 2)
    for left in range(tokens, 0, -1):
        if len(ids) - begin > context:
            begin = len(ids) - max(context + 1 - left, context // 2)
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids[begin:]]))[0, -1, : lm.tokenizer.vocab_size]
        if int(logits.argmax()) == 0:
            break
        ids.append(int(logits.argmax()))
    else:
        assert begin > 0
    assert generate(lm, [prompt], tokens=tokens, temperature=0) == [lm.tokenizer.decode(ids[start:])]


def test_a_text_does_not_depend_on_the_other_prompts(lm: LanguageModel) -> None:
    drawn = {"tokens": 12, "temperature": 0.9, "top_k": 50, "top_p": 0.9, "seed": 5}
    together = generate(lm, PROMPTS, **drawn)
    in_small_batches = generate(lm, PROMPTS, batch_tokens=1, **drawn)
    first_alone = generate(lm, PROMPTS[:1], **drawn)
    assert together == in_small_batches
    assert together[:1] == first_alone


def test_the_seed_decides(lm: LanguageModel) -> None:
    drawn = {"tokens": 12, "temperature": 1.0}
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
    assert generate(plant(lm, table), ["A:"], tokens=50, temperature=0) == [" 42\n"]
    assert generate(plant(lm, table), ["A:"], tokens=50, temperature=0, stop="\n") == [" 42"]


def test_ids_beyond_the_tokenizer_are_never_drawn(lm: LanguageModel) -> None:
    assert lm.tokenizer.vocab_size < VOCAB_SIZE or lm.config.padded_vocab_size > VOCAB_SIZE
    table = logits_of(lm.tokenizer, {" a": 5.0}).repeat(512, 2)[:, :512].clone()
    table[:, lm.tokenizer.vocab_size :] = 100.0
    assert generate(plant(lm, table), ["The"], tokens=3, temperature=0) == [" a a a"]


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


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-320, 1e-45, 1e-38, 1e-9, 1e-6])
def test_a_temperature_near_zero_takes_the_first_choice(lm: LanguageModel, temperature: float) -> None:
    assert generate(lm, ["The baker"], tokens=8, temperature=temperature) == generate(
        lm, ["The baker"], tokens=8, temperature=0
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_p", 1.5),
        ("top_p", math.nan),
        ("tokens", -1),
    ],
)
def test_a_setting_out_of_range_is_refused(lm: LanguageModel, setting: str, value: float) -> None:
    with pytest.raises(InputError, match="out of range") as told:
        generate(lm, ["The"], **{"tokens": 1, "temperature": 0, setting: value})
    assert told.value.where == setting


def test_a_prompt_that_is_not_text_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        generate(lm, ["The", "a\udcffb"], tokens=1, temperature=0)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_and_no_text(lm: LanguageModel, broken: float) -> None:
    model = plant(lm, torch.full((VOCAB_SIZE, VOCAB_SIZE), broken))
    for temperature in (0.0, 1.0):
        with pytest.raises(InputError, match="not finite"):
            generate(model, ["The"], tokens=1, temperature=temperature)
    with pytest.raises(InputError, match="not finite"):
        score(model, [Request("The", (" baker",))], 100)


def test_the_part_of_a_prompt_that_the_model_does_not_see_is_counted(lm: LanguageModel) -> None:
    long = "The nurse laughed at the pilot. " * 8
    inside = lm.config.sequence_length - 1
    cut = tokens_cut(lm, ["", "The baker", long], tokens=1)
    assert cut == [0, 0, len(lm.tokenizer.encode(long)) - inside]
    assert cut[2] > 0
    for_more = tokens_cut(lm, [long], tokens=5)
    assert for_more == [cut[2] + 4]


def test_a_prompt_longer_than_the_context_is_said(model_directory: Path) -> None:
    given = ["generate", "quickstart", "--model", str(model_directory), "--tokens", "1", "--prompt"]
    long = CliRunner().invoke(app, [*given, "The nurse laughed at the pilot. " * 20])
    short = CliRunner().invoke(app, [*given, "The nurse"])
    assert (long.exit_code, short.exit_code) == (0, 0), long.output
    assert "tokens are beyond the model's context and are not read" in " ".join(long.stderr.split())
    assert "context" not in short.stderr
