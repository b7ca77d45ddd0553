"""The samples of a run as tensors by name, for each family of models, and what each kind of loss is divided by."""

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from megalith.errors import InputError
from megalith.parallel import MicroBatch
from megalith.tokens import (
    IGNORE,
    Blend,
    MaskedWindows,
    Shards,
    SpecialTokens,
    TrainingWindows,
    ValidationMaskedWindows,
    ValidationWindows,
    load_tokenizer,
)
from megalith.tokens.blending import blended_windows, check_blend, shard_name
from megalith.training.job import Job

_COUNTED = ("targets", "order")  # by name, one for each kind of loss; what is IGNORE in them does not count


class Samples(Protocol):
    """Numbered samples: any range of them is the same whatever was asked before."""

    def batch(self, first: int, count: int) -> MicroBatch:
        """Samples first … first + count − 1 by name: `tokens` (B, T) and what else the model takes."""


class CausalSamples:
    """Windows of the token stream for a gpt: `tokens` and `targets`, (B, T) each."""

    def __init__(self, windows: TrainingWindows | ValidationWindows | Blend) -> None:
        self.windows = windows

    def batch(self, first: int, count: int) -> MicroBatch:
        tokens, targets = self.windows.batch(first, count)
        return {"tokens": torch.from_numpy(tokens), "targets": torch.from_numpy(targets)}


class MaskedSamples:
    """Masked pairs of texts for a bert: `tokens`, `targets` and `segments` (B, T), `lengths` and `order` (B,)."""

    def __init__(self, windows: MaskedWindows | ValidationMaskedWindows) -> None:
        self.windows = windows

    def batch(self, first: int, count: int) -> MicroBatch:
        arrays = cast(dict[str, NDArray[np.int64]], self.windows.batch(first, count))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def training_samples(job: Job) -> Samples:
    """What the job trains on. Raises InputError when a bert's tokens were made for a gpt, or a blend cannot be read."""
    length, seed, blend = job.recipe.model.sequence_length, job.recipe.seed, job.recipe.blend
    if blend.datasets:
        sizes = {name: Shards(job.tokens / shard_name(name)).tokens for name in blend.datasets}
        check_blend(blend, sizes, job.recipe.train.tokens)
        return CausalSamples(blended_windows(blend, job.tokens, length, seed))
    shards = Shards(job.tokens / "train")
    if job.recipe.model.family == "bert":
        return MaskedSamples(MaskedWindows(shards, length, seed, *_vocabulary(job.tokens)))
    return CausalSamples(TrainingWindows(shards.stream, length, seed))


def validation_samples(job: Job) -> tuple[Samples, int]:
    """The held-out text, with masks that never change, and how many samples it has."""
    shards, length, seed = Shards(job.tokens / "validation"), job.recipe.model.sequence_length, job.recipe.seed
    if job.recipe.model.family == "bert":
        masked = ValidationMaskedWindows(shards, length, seed, *_vocabulary(job.tokens))
        return MaskedSamples(masked), len(masked)
    windows = ValidationWindows(shards.stream, length)
    return CausalSamples(windows), len(windows)


def _vocabulary(tokens: Path) -> tuple[int, SpecialTokens]:
    """The entries of a bert's tokenizer, and which of them are special."""
    tokenizer = load_tokenizer(tokens)
    if tokenizer.special is None:
        raise InputError(
            "this tokenizer has no [MASK], which a bert's samples are made with.",
            where=str(tokens / "tokenizer.json"),
            mend="Run `megalith tokenize` with model.family: bert.",
        )
    return tokenizer.vocab_size, tokenizer.special


def counts(batch: MicroBatch) -> list[float]:
    """What each kind of loss of this batch is a sum over: predicted tokens, and for a bert pairs of texts."""
    return [float((batch[name] != IGNORE).sum()) for name in _COUNTED if name in batch]


def blank(batch: MicroBatch) -> MicroBatch:
    """A batch of the same shape in which nothing counts."""
    return {name: torch.full_like(value, IGNORE) if name in _COUNTED else value for name, value in batch.items()}


__all__ = [
    "CausalSamples",
    "MaskedSamples",
    "Samples",
    "blank",
    "counts",
    "training_samples",
    "validation_samples",
]
