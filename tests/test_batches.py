"""Steps and shares, against a loop that takes one step at a time."""

import pytest

from megalith.batches import batch_unit, powers_of_two_dividing, steps_for, tokens_for
from megalith.recipe import Recipe, load_recipe


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart", ["train.global_batch_size=8", "model.sequence_length=32", *overrides])[0]


RAMP = "train.batch_ramp={start: 2, increment: 2, tokens: 1000}"


def test_tokens_are_whole_steps_and_never_more_than_the_budget_pays_for() -> None:
    assert tokens_for(recipe(), 1000.0) == 3 * 8 * 32
    assert tokens_for(recipe(), 255.9) == 0


@pytest.mark.parametrize(("tokens", "steps"), [(256, 1), (257, 2), (2560, 10)])
def test_the_last_step_is_whole(tokens: int, steps: int) -> None:
    assert steps_for(recipe(), tokens) == steps


@pytest.mark.parametrize("tokens", [64, 500, 1000, 5000])
def test_a_ramp_takes_more_steps_for_the_same_tokens(tokens: int) -> None:
    """2, 4 and 6 sequences for a third of the 1,000 tokens each, then 8: counted here step by step."""
    seen = steps = 0
    while seen < tokens:
        batch = 2 if seen < 1000 / 3 else 4 if seen < 2000 / 3 else 6 if seen < 1000 else 8
        seen += batch * 32
        steps += 1
    assert steps_for(recipe(RAMP), tokens) == steps


def test_a_share_divides_every_batch_of_a_ramp() -> None:
    assert batch_unit(recipe()) == 8
    assert batch_unit(recipe(RAMP)) == 2


def test_powers_of_two_that_divide() -> None:
    assert powers_of_two_dividing(24, 100) == [1, 2, 4, 8]
    assert powers_of_two_dividing(24, 4) == [1, 2, 4]
    assert powers_of_two_dividing(7, 100) == [1]
