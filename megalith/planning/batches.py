"""Steps, tokens and batches: how many steps a number of tokens takes, and what a rank's share may be."""

import math

from megalith.recipe import Recipe


def tokens_per_step(recipe: Recipe) -> int:
    """Tokens of one step at the full batch."""
    return recipe.train.global_batch_size * recipe.model.sequence_length


def tokens_for(recipe: Recipe, wanted: float) -> int:
    """`wanted` tokens in whole steps: down, so that a budget is not overspent; 0 if it does not pay for one."""
    step = tokens_per_step(recipe)
    return int(wanted // step) * step


def steps_for(recipe: Recipe, tokens: int) -> int:
    """Optimizer steps for `tokens` tokens: the last one is whole. During a batch ramp a step is smaller."""
    return sum(steps_by_batch(recipe, tokens).values())


def steps_by_batch(recipe: Recipe, tokens: int) -> dict[int, int]:
    """How many optimizer steps are taken at each global batch (in sequences), in the order of training.

    The batch at a step depends on the tokens seen so far: `start`, and one `increment` more for each equal part of the
    ramp's tokens (MT-NLG §3.2; Megatron-LM's rampup-batch-size).
    """
    ramp, sequence, full = recipe.train.batch_ramp, recipe.model.sequence_length, recipe.train.global_batch_size
    steps: dict[int, int] = {}
    seen = 0
    if ramp is not None:
        increments = (full - ramp.start) // ramp.increment
        while seen < min(tokens, ramp.tokens) and increments > 0:
            batch = ramp.start + min(increments, seen * increments // ramp.tokens) * ramp.increment
            seen += batch * sequence
            steps[batch] = steps.get(batch, 0) + 1
    left = max(0, math.ceil((tokens - seen) / tokens_per_step(recipe)))
    return {**steps, full: steps.get(full, 0) + left}


def batch_unit(recipe: Recipe) -> int:
    """What data × micro-batch must divide: the batch, and every batch on the way of a ramp."""
    ramp = recipe.train.batch_ramp
    batch = recipe.train.global_batch_size
    return math.gcd(batch, ramp.start, ramp.increment) if ramp else batch


def powers_of_two_dividing(number: int, most: int) -> list[int]:
    """1, 2, 4, … that divide `number` and are at most `most`."""
    powers = [2**exponent for exponent in range(number.bit_length())]
    return [power for power in powers if number % power == 0 and power <= most]
