"""The data of a run: the batches of its steps, the samples of each data-parallel rank, and samples as tensors.

A batch is dealt out over the data-parallel ranks a micro-batch at a time. Where it does not come out even, as on the
way of a batch ramp, samples in which nothing counts fill it up: every rank computes as many micro-batches of the same
shape, and each sample of the batch counts once, on any number of ranks (MT-NLG's ramp begins with 32 sequences for 12
replicas).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from megalith.batches import batch_size, micro_batch_multiple, padded_micro_batches
from megalith.errors import InputError
from megalith.parallel import Mesh, MicroBatch
from megalith.recipe import Recipe, TrainConfig
from megalith.tokens import (
    IGNORE,
    Blend,
    MaskedWindows,
    SpecialTokens,
    TrainingWindows,
    ValidationMaskedWindows,
    ValidationWindows,
    load_tokenizer,
    open_split,
)
from megalith.tokens.blending import blended_windows, check_blend, shard_name
from megalith.training.lr_schedule import run_tokens
from megalith.training.task import TrainTask

_COUNTED = ("targets", "order")  # by name, one for each kind of loss; IGNORE entries do not count


@dataclass(frozen=True)
class Batch:
    """The samples of one optimizer step."""

    step: int
    """Counted from 1."""
    first_sample: int
    sequences: int
    tokens: int
    """Consumed when the step is done."""


def batches(
    train: TrainConfig, sequence_length: int, *, step: int = 0, samples: int = 0, tokens: int = 0
) -> Iterator[Batch]:
    """The steps of a run, until `train.tokens` are consumed; the last step is as large as the others.

    `step` steps have consumed `tokens` tokens, and the next one reads the sample `samples`.
    """
    while tokens < run_tokens(train):
        step += 1
        sequences = batch_size(train, tokens)
        tokens += sequences * sequence_length
        yield Batch(step, samples, sequences, tokens)
        samples += sequences


def micro_batches(recipe: Recipe, sequences: int, data: int) -> int:
    """Micro-batches that each data-parallel rank computes for a batch of `sequences`."""
    parallel = recipe.parallel
    own = parallel.schedule_file is not None
    multiple = 1 if own else micro_batch_multiple(parallel.schedule, parallel.pipeline or 1)
    return padded_micro_batches(sequences, data, recipe.train.micro_batch_size or 1, multiple)


def rank_samples(recipe: Recipe, batch: Batch, ranks: Mesh, turn: int = 0) -> list[range]:
    """The samples of each micro-batch of this rank; a range may be short, or empty.

    With a `turn` they are those of the data-parallel rank that many places on.
    """
    own = (ranks.data_index + turn) % ranks.data_size
    size, end = recipe.train.micro_batch_size or 1, batch.first_sample + batch.sequences
    firsts = (
        batch.first_sample + (number * ranks.data_size + own) * size
        for number in range(micro_batches(recipe, batch.sequences, ranks.data_size))
    )
    return [range(min(first, end), min(first + size, end)) for first in firsts]


class Samples(Protocol):
    """Numbered samples: any range of them is the same whatever was asked before."""

    def batch(self, first: int, count: int) -> MicroBatch:
        """Samples first … first + count − 1 by name: `tokens` (B, T) and the model's other inputs."""


class CausalSamples:
    """Windows of the token stream for a GPT model: `tokens` and `targets`, (B, T) each.

    With the id of the token that each document begins with, `document_starts` (B, T), too.
    """

    def __init__(self, windows: TrainingWindows | ValidationWindows | Blend, begins: int | None = None) -> None:
        self.windows, self._begins = windows, begins

    def batch(self, first: int, count: int) -> MicroBatch:
        tokens, targets = self.windows.batch(first, count)
        arrays = {"tokens": tokens, "targets": targets}
        if self._begins is not None:
            arrays["document_starts"] = document_starts(tokens, self._begins)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def document_starts(tokens: NDArray[np.int64], begins: int) -> NDArray[np.int64]:
    """For each token (B, T) the place of the last token `begins` up to it; 0 before the first, in a document's rest."""
    places = np.where(tokens == begins, np.arange(tokens.shape[1]), 0)
    starts: NDArray[np.int64] = np.maximum.accumulate(places, axis=1)
    return starts


class MaskedSamples:
    """Masked pairs of texts for a BERT model: `tokens`, `targets` and `segments` (B, T), `lengths` and `order` (B,)."""

    def __init__(self, windows: MaskedWindows | ValidationMaskedWindows) -> None:
        self.windows = windows

    def batch(self, first: int, count: int) -> MicroBatch:
        arrays = cast(dict[str, NDArray[np.int64]], self.windows.batch(first, count))
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class LaterSamples:
    """Samples whose numbers begin later, those of a branch that reads other data."""

    def __init__(self, samples: Samples, first: int) -> None:
        self._samples, self._first = samples, first

    def batch(self, first: int, count: int) -> MicroBatch:
        return self._samples.batch(first - self._first, count)


def training_samples(task: TrainTask) -> Samples:
    """The samples that a run trains on.

    Raises InputError when a BERT model's tokens were made for a GPT model, or a blend cannot be read.
    """
    samples = _samples_of(task)
    return LaterSamples(samples, task.data_from) if task.data_from else samples


def _samples_of(task: TrainTask) -> Samples:
    length, seed, blend = task.recipe.model.sequence_length, task.recipe.seed, task.recipe.mixture
    if blend.datasets:
        sizes = {name: open_split(task.tokens, shard_name(name)).tokens for name in blend.datasets}
        check_blend(blend, sizes, task.recipe.train.tokens)
        return CausalSamples(blended_windows(blend, task.tokens, length, seed, task.drawn), _begins(task))
    shards = open_split(task.tokens, "train")
    if task.recipe.model.family == "bert":
        return MaskedSamples(MaskedWindows(shards, length, seed, *_vocabulary(task.tokens)))
    return CausalSamples(TrainingWindows(shards.stream, length, seed), _begins(task))


def validation_samples(task: TrainTask) -> tuple[Samples, int]:
    """The held-out samples, with masks that never change, and their number."""
    shards, length = open_split(task.tokens, "validation"), task.recipe.model.sequence_length
    seed = task.recipe.seed
    if task.recipe.model.family == "bert":
        masked = ValidationMaskedWindows(shards, length, seed, *_vocabulary(task.tokens))
        return MaskedSamples(masked), len(masked)
    windows = ValidationWindows(shards.stream, length)
    return CausalSamples(windows, _begins(task)), len(windows)


def _begins(task: TrainTask) -> int | None:
    """The token that documents begin with, where they are to be apart."""
    return load_tokenizer(task.tokens).end_of_text if task.recipe.train.document_mask else None


def _vocabulary(tokens: Path) -> tuple[int, SpecialTokens]:
    """The size of a BERT model's vocabulary, and its special tokens."""
    tokenizer = load_tokenizer(tokens)
    if tokenizer.special is None:
        raise InputError(
            "this tokenizer has no [MASK], which the samples of a BERT model need.",
            where=str(tokens / "tokenizer.json"),
            mend="Run `megalith tokenize` with model.family: bert.",
        )
    return tokenizer.vocab_size, tokenizer.special


def counts(batch: MicroBatch) -> list[float]:
    """The number of terms of each kind of loss: predicted tokens, and for a BERT model pairs of texts."""
    return [float((batch[name] != IGNORE).sum()) for name in _COUNTED if name in batch]


def blank(batch: MicroBatch) -> MicroBatch:
    """A batch of the same shape in which nothing counts."""
    return {name: torch.full_like(value, IGNORE) if name in _COUNTED else value for name, value in batch.items()}


def read_samples(samples: Samples, numbers: Sequence[int], size: int) -> MicroBatch:
    """Read samples by number as one micro-batch, filled up to `size` with samples in which nothing counts."""
    if isinstance(numbers, range) and len(numbers) == size:
        return samples.batch(numbers.start, size)
    rows = [samples.batch(number, 1) for number in numbers]
    nothing = blank(rows[0] if rows else samples.batch(0, 1))
    rows += [nothing] * (size - len(rows))
    return {name: torch.cat([row[name] for row in rows]) for name in nothing}
