"""What changes in the course of a run, as pure functions of the tokens consumed: learning rate and batch size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from megalith.batches import batch_size
from megalith.errors import RecipeError
from megalith.recipe import TrainConfig

WARMUP_SHARE = 0.02
MINIMUM_SHARE = 0.1  # GPT-3, MT-NLG: down to a tenth of the peak
STABLE_SHARE = 0.8  # wsd: the last fifth decays (2405.18392)


@dataclass(frozen=True)
class Batch:
    """The samples of one optimizer step."""

    step: int
    """Counted from 1."""
    first_sample: int
    sequences: int
    tokens: int
    """Consumed when the step is done."""


def batches(train: TrainConfig, sequence_length: int) -> Iterator[Batch]:
    """The steps of a run, until `train.tokens` are consumed; the last step is as large as the others."""
    step = samples = 0
    while samples * sequence_length < _tokens(train):
        step += 1
        sequences = batch_size(train, samples * sequence_length)
        yield Batch(step, samples, sequences, (samples + sequences) * sequence_length)
        samples += sequences


def learning_rate(train: TrainConfig, tokens: int) -> float:
    """The rate of the step that ends at `tokens`: a linear warmup, then the schedule, never under the minimum.

    cosine and linear fall to the minimum at `decay_tokens` (GPT-3; Megatron-LM). wsd holds the peak for the first four
    fifths and falls linearly (2404.06395, 2405.18392). inverse_sqrt falls as 1/√tokens from the end of the warmup
    (1706.03762).

    Raises RecipeError for inverse_sqrt without a warmup.
    """
    peak = train.learning_rate
    minimum = MINIMUM_SHARE * peak if train.minimum_learning_rate is None else train.minimum_learning_rate
    total = _tokens(train)
    warmup = WARMUP_SHARE * total if train.warmup_tokens is None else train.warmup_tokens
    end = train.decay_tokens or total
    if train.schedule == "inverse_sqrt" and warmup == 0:
        raise RecipeError(
            "inverse_sqrt falls from the end of the warmup, and there is none.",
            where="train.warmup_tokens",
            mend="Give some tokens of warmup, or another train.schedule.",
        )
    if tokens < warmup:
        return peak * tokens / warmup
    done = min(1.0, (tokens - warmup) / max(1, end - warmup))  # share of the way from warmup to end
    match train.schedule:
        case "constant":
            return peak
        case "inverse_sqrt":
            return max(minimum, peak * math.sqrt(warmup / tokens))
        case "linear":
            height = 1 - done
        case "wsd":
            stable = max(warmup, STABLE_SHARE * end)
            height = 1 - min(1.0, max(0.0, tokens - stable) / max(1, end - stable))
        case "cosine":
            height = (1 + math.cos(math.pi * done)) / 2
    return minimum + (peak - minimum) * height


def _tokens(train: TrainConfig) -> int:
    if train.tokens is None:
        raise RecipeError("how long to train is not known yet.", where="train.tokens", mend="Plan first, or give it.")
    return train.tokens
