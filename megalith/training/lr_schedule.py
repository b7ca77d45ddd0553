"""The learning-rate schedule: a pure function of the tokens consumed, so that neither ramp nor layout bends it."""

import math

from megalith.errors import RecipeError
from megalith.recipe import TrainConfig

WARMUP_SHARE = 0.02
MINIMUM_SHARE = 0.1  # GPT-3, MT-NLG: down to a tenth of the peak
STABLE_SHARE = 0.8  # wsd: the last fifth decays (2405.18392)


def learning_rate(train: TrainConfig, tokens: int) -> float:
    """The rate of the step that ends at `tokens`: a linear warmup, then the schedule, never under the minimum.

    cosine and linear fall to the minimum at `decay_tokens` (GPT-3; Megatron-LM). wsd holds the peak until
    `cooldown_tokens` before that, by default the last fifth, and falls linearly (2404.06395, 2405.18392).
    inverse_sqrt falls as 1/√tokens from the end of the warmup (1706.03762).

    Raises RecipeError for inverse_sqrt without a warmup, and for a decay that ends before the warmup does.
    """
    peak = train.learning_rate
    minimum = MINIMUM_SHARE * peak if train.minimum_learning_rate is None else train.minimum_learning_rate
    total = run_tokens(train)
    warmup = warmup_tokens(train)
    end = train.decay_tokens or total
    if train.schedule == "inverse_sqrt" and warmup == 0:
        raise RecipeError(
            "inverse_sqrt falls from the end of the warmup, and the warmup is 0.",
            where="train.warmup_tokens",
            mend="Set some tokens of warmup, or another train.schedule.",
        )
    if end <= warmup:
        raise RecipeError(
            f"the decay ends after {end:,} tokens, and the warmup takes {warmup:,.0f}.",
            where="train.decay_tokens",
            mend="Set a shorter train.warmup_tokens, or more train.decay_tokens.",
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
            stable = STABLE_SHARE * end if train.cooldown_tokens is None else end - train.cooldown_tokens
            stable = max(warmup, stable)
            height = 1 - min(1.0, max(0.0, tokens - stable) / max(1, end - stable))
        case "cosine":
            height = (1 + math.cos(math.pi * done)) / 2
    return minimum + (peak - minimum) * height


def warmup_tokens(train: TrainConfig) -> float:
    """Tokens of the warm-up: by default a share of all tokens."""
    return WARMUP_SHARE * run_tokens(train) if train.warmup_tokens is None else train.warmup_tokens


def run_tokens(train: TrainConfig) -> int:
    """Tokens of the whole run. Raises RecipeError where they are left open."""
    if train.tokens is None:
        raise RecipeError("how long to train is not known yet.", where="train.tokens", mend="Plan first, or set it.")
    return train.tokens
