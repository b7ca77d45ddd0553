"""The validation loss in nats per token of held-out text, and the entropy that a count of the tokens would reach."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from megalith.model import GPT
from megalith.parallel import Ranks
from megalith.tokens import IGNORE, ValidationWindows


def validation_loss(
    model: GPT,
    windows: ValidationWindows,
    count: int,
    batch_size: int,
    ranks: Ranks,
    precision: AbstractContextManager[object],
) -> float:
    """Nats per token over `count` windows, evenly spread over the split, `batch_size` at a time on each rank."""
    was_training = model.training
    model.eval()
    nats, predicted = 0.0, 0
    with torch.no_grad(), precision:
        for inputs, targets in _share(windows, count, batch_size, ranks):
            nats += float(model.loss(torch.from_numpy(inputs), torch.from_numpy(targets)))
            predicted += int((targets != IGNORE).sum())
    model.train(was_training)
    nats, all_predicted = ranks.sum(nats, predicted)
    return nats / all_predicted


def unigram_entropy(windows: ValidationWindows, vocab_size: int) -> float:
    """−Σ p ln p in nats, p the frequencies of the targets of all windows among themselves.

    No model that ignores the context does better on these tokens: a loss above this has learned nothing but counts.
    """
    counts: NDArray[np.int64] = np.bincount(windows.stream[1:].astype(np.int64), minlength=vocab_size)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _share(
    windows: ValidationWindows, count: int, batch_size: int, ranks: Ranks
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    chosen = [place * len(windows) // count for place in range(count)] if count < len(windows) else range(len(windows))
    for first in range(batch_size * ranks.rank, len(chosen), batch_size * ranks.count):
        read = [windows.batch(number, 1) for number in chosen[first : first + batch_size]]
        inputs, targets = (np.concatenate(parts) for parts in zip(*read, strict=True))
        yield inputs, targets
