"""Which tokens make up which sample of a causal language model: a pure function of (seed, sample number).

Windows are cut from the token ring in the order of `order.py`. A token is a target at most once an epoch, the N mod T
that are left over are others in each epoch, and a stream shorter than a window is gone round as often as one needs.

Samples are numbered through the whole run, whatever the batch size and however many ranks share the work: a batch
ramp, a resumed run and another data-parallel layout all read the very same samples. Each rank asks for the ranges that
fall to it. No state is kept and no index is built, so a trillion tokens open as fast as a thousand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megalith.tokens.order import window_starts, windows_per_epoch
from megalith.tokens.stream import TokenStream, read_ring, want_tokens, will_read

IGNORE = -100  # torch.nn.functional.cross_entropy's ignore_index

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Inputs and targets, (B, T) each: target t is the token that follows input t."""


@dataclass(frozen=True)
class TrainingWindows:
    """The samples of a training run over a flat stream of token ids (`Shards.stream`)."""

    stream: TokenStream
    sequence_length: int
    seed: int

    def __post_init__(self) -> None:
        want_tokens(self.stream, "training")

    @property
    def per_epoch(self) -> int:
        """Windows in one epoch."""
        return windows_per_epoch(len(self.stream), self.sequence_length)

    def batch(self, first_sample: int, count: int) -> Batch:
        """Samples first_sample … first_sample + count − 1. Any range gives what the ranges that it is made of give."""
        samples = np.arange(first_sample, first_sample + count, dtype=np.uint64)
        starts = window_starts(samples, len(self.stream), self.sequence_length, self.seed)
        inputs = np.empty((count, self.sequence_length), dtype=np.int64)
        targets = np.empty_like(inputs)
        rows = [read_ring(self.stream, start, self.sequence_length + 1) for start in starts.tolist()]
        for tokens in rows:  # all are on their way before the first is wanted
            will_read(tokens)
        for row, tokens in enumerate(rows):
            inputs[row], targets[row] = tokens[:-1], tokens[1:]
        return inputs, targets


@dataclass(frozen=True)
class ValidationWindows:
    """A stream cut into windows in order: every token but the first is a target exactly once."""

    stream: TokenStream
    sequence_length: int

    def __post_init__(self) -> None:
        want_tokens(self.stream, "validation")

    def __len__(self) -> int:
        """Windows, the last one filled up with IGNORE targets."""
        return -(-self.targets // self.sequence_length)

    @property
    def targets(self) -> int:
        """Tokens that are predicted."""
        return len(self.stream) - 1

    def batch(self, first_window: int, count: int) -> Batch:
        """Windows first_window … first_window + count − 1 (fewer at the end)."""
        last = min(first_window + count, len(self))
        start, end = first_window * self.sequence_length, min(last * self.sequence_length, self.targets)
        shape = (max(0, last - first_window), self.sequence_length)
        inputs = np.zeros(shape, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        inputs.reshape(-1)[: end - start] = self.stream[start:end]
        targets.reshape(-1)[: end - start] = self.stream[start + 1 : end + 1]
        return inputs, targets

    def batches(self, size: int) -> Iterator[Batch]:
        """All windows, `size` at a time."""
        for first in range(0, len(self), size):
            yield self.batch(first, size)
