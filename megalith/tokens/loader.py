"""Which tokens make up which sample: a pure function of (seed, sample number), with no state and no shuffle index.

The token stream is a ring: after its last token, which ends a document, comes its first. An epoch begins at a place of
its own on the ring and cuts N // T windows of T targets, whose order is a keyed permutation (a Feistel network with
cycle walking: Luby & Rackoff 1988; Black & Rogaway 2002). So a token is a target at most once an epoch, the N mod T
that are left over are others in each epoch, and a stream shorter than a window is gone round as often as one needs.

Samples are numbered through the whole run, whatever the batch size and however many ranks share the work: a batch
ramp, a resumed run and another data-parallel layout all read the very same samples. Each rank asks for the ranges that
fall to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError

IGNORE = -100  # torch.nn.functional.cross_entropy's ignore_index
_FEISTEL_ROUNDS = 8
_SMALLEST_HALF_BITS = 3  # networks over fewer bits reach too few of the permutations
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: splitmix64's increment (Steele et al. 2014)

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Inputs and targets, (B, T) each: target t is the token that follows input t."""


@dataclass(frozen=True)
class TrainingWindows:
    """The samples of a training run over a flat stream of token ids (`Shards.stream`)."""

    stream: NDArray[Any]
    sequence_length: int
    seed: int

    def __post_init__(self) -> None:
        _want_tokens(self.stream, "training")

    @property
    def per_epoch(self) -> int:
        """Windows in one epoch."""
        return max(1, len(self.stream) // self.sequence_length)

    def batch(self, first_sample: int, count: int) -> Batch:
        """Samples first_sample … first_sample + count − 1. Any range gives what the ranges that it is made of give."""
        samples = np.arange(first_sample, first_sample + count, dtype=np.uint64)
        epochs, places = samples // np.uint64(self.per_epoch), samples % np.uint64(self.per_epoch)
        seeds: NDArray[np.uint64] = np.full(count, self.seed % 2**64, dtype=np.uint64)
        keys = _mix(_mix(seeds) + epochs * _GOLDEN)  # (B,)
        windows = permute(places, self.per_epoch, keys)
        offsets = (_mix(~keys) % np.uint64(len(self.stream))).astype(np.int64)
        starts = offsets + windows * self.sequence_length
        places_on_ring = (starts[:, None] + np.arange(self.sequence_length + 1)) % len(self.stream)
        tokens = self.stream[places_on_ring].astype(np.int64)  # (B, T + 1)
        return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


@dataclass(frozen=True)
class ValidationWindows:
    """A stream cut into windows in order: every token but the first is a target exactly once."""

    stream: NDArray[Any]
    sequence_length: int

    def __post_init__(self) -> None:
        _want_tokens(self.stream, "validation")

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


def permute(numbers: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Each of `numbers` (all under `size`) under the permutation of 0 … size − 1 that its own key picks."""
    half_bits = max(_SMALLEST_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
    values = _feistel(numbers, keys, half_bits)
    outside = np.flatnonzero(values >= size)
    while outside.size:  # walk on along the cycle until it is back inside
        values[outside] = _feistel(values[outside], keys[outside], half_bits)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], keys: NDArray[np.uint64], half_bits: int) -> NDArray[np.uint64]:
    """A keyed permutation of 0 … 4^half_bits − 1."""
    left, right = values >> np.uint64(half_bits), values & np.uint64(2**half_bits - 1)
    for turn in range(1, _FEISTEL_ROUNDS + 1):
        round_keys = _mix(keys + np.full_like(keys, turn) * _GOLDEN)
        left, right = right, left ^ (_mix(right ^ round_keys) >> np.uint64(64 - half_bits))
    return (left << np.uint64(half_bits)) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: every bit in reaches every bit out."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _want_tokens(stream: NDArray[Any], split: str) -> None:
    if len(stream) < 2:
        count = "no token" if len(stream) == 0 else "a single token"
        raise InputError(
            f"the {split} split holds {count}: there is nothing to predict.",
            where=split,
            mend="Give curation more text, or change curate.validation_share.",
        )
