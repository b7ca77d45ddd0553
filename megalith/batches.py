"""Tokens in steps, steps in global batches, and a global batch in micro-batches."""

import math

from megalith.recipe import Recipe, TrainConfig


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
    """Number of optimizer steps at each global batch (in sequences), in the order of training."""
    train, sequence = recipe.train, recipe.model.sequence_length
    ramp_tokens = train.batch_ramp.tokens if train.batch_ramp else 0
    steps: dict[int, int] = {}
    seen = 0
    while seen < min(tokens, ramp_tokens):
        batch = batch_size(train, seen)
        seen += batch * sequence
        steps[batch] = steps.get(batch, 0) + 1
    left = max(0, math.ceil((tokens - seen) / tokens_per_step(recipe)))
    return {**steps, train.global_batch_size: steps.get(train.global_batch_size, 0) + left}


def batch_size(train: TrainConfig, tokens: int) -> int:
    """Sequences of the step that begins after `tokens`.

    During a ramp it is `start` and one `increment` more for each equal part of the ramp's tokens (MT-NLG §3.2;
    Megatron-LM's rampup-batch-size).
    """
    ramp = train.batch_ramp
    if ramp is None or tokens >= ramp.tokens:
        return train.global_batch_size
    increments = (train.global_batch_size - ramp.start) // ramp.increment
    return ramp.start + ramp.increment * (tokens * increments // ramp.tokens)


def ramp_batches(train: TrainConfig) -> range:
    """The global batches on the way to the full one, in sequences; empty without a batch ramp."""
    ramp = train.batch_ramp
    return range(ramp.start, train.global_batch_size, ramp.increment) if ramp else range(0)


def micro_batches(sequences: int, data: int, micro_batch_size: int) -> int:
    """Micro-batches of each data-parallel rank in a step of `sequences`, which they divide."""
    return sequences // (data * micro_batch_size)


def padded_micro_batches(sequences: int, data: int, micro_batch_size: int, multiple: int = 1) -> int:
    """Micro-batches of each data-parallel rank in a step of any size, filled up with samples that do not count.

    `multiple` is what the schedule takes at a time: see `micro_batch_multiple`.
    """
    count = math.ceil(sequences / (data * micro_batch_size))
    return math.ceil(count / multiple) * multiple


def micro_batch_multiple(schedule: str, pipeline: int) -> int:
    """The interleaved schedule takes micro-batches in rounds of one for each pipeline rank (2104.04473 §2.2)."""
    return pipeline if schedule == "interleaved-1f1b" else 1


def batch_unit(recipe: Recipe) -> int:
    """The number that data × micro-batch must divide: the batch, and every batch on the way of a ramp."""
    ramp = recipe.train.batch_ramp
    batch = recipe.train.global_batch_size
    return math.gcd(batch, ramp.start, ramp.increment) if ramp else batch


def powers_of_two_dividing(number: int, most: int) -> list[int]:
    """1, 2, 4, … that divide `number` and are at most `most`."""
    powers = [2**exponent for exponent in range(number.bit_length())]
    return [power for power in powers if number % power == 0 and power <= most]
