"""Loss spikes: how far a step's loss lies above those of the window before it, in robust standard deviations.

The centre is the median and the spread 1.4826 times the median absolute deviation, which one spike among the losses
before does not move (Rousseeuw & Croux 1993). The window is read from the run's history, so that a resumed run decides
as an unbroken one does.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from megalith.recipe import TrainConfig

NORMAL = 1.4826  # MAD of a normal distribution in its standard deviations
LEAST_SPREAD = 1e-3  # of the median: losses that hardly move are no reason to call the next one a spike
SKIPPED = "skipped"  # the key that marks a step of the history which was not taken for its spike


def is_spike(train: TrainConfig, steps: Sequence[dict[str, Any]], loss: float) -> bool:
    """Whether `loss` is a spike after the steps of a history; never where training ignores them."""
    if train.on_spike == "ignore":
        return False
    score = spike_score(steps, loss, train.spike_window)
    return score is not None and score > train.spike_score


def spike_score(steps: Sequence[dict[str, Any]], loss: float, window: int) -> float | None:
    """The robust z-score of a loss over the last `window` steps that were taken; None where there are fewer."""
    losses: list[float] = []
    for step in reversed(steps):
        taken = step["loss"] is not None and step["gradient_norm"] is not None and SKIPPED not in step
        if taken:
            losses.append(step["loss"])
            if len(losses) == window:
                break
    if len(losses) < window:
        return None
    centre = statistics.median(losses)
    spread = NORMAL * statistics.median(abs(each - centre) for each in losses)
    return (loss - centre) / max(spread, LEAST_SPREAD * abs(centre), 1e-12)
