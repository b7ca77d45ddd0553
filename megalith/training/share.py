"""Which samples of a batch fall to which data-parallel rank, and how a micro-batch that is not full is filled up.

A batch is dealt out a micro-batch at a time. Where it does not come out even, as on the way of a batch ramp, what is
missing are samples in which nothing counts: every rank computes as many micro-batches of the same shape, and each
sample of the batch counts once, on any number of ranks (MT-NLG's ramp begins with 32 sequences for 12 replicas).
"""

from collections.abc import Sequence

import torch

from megalith.batches import micro_batch_multiple, padded_micro_batches
from megalith.parallel import MicroBatch, Ranks
from megalith.recipe import Recipe
from megalith.training.samples import Samples, blank
from megalith.training.schedule import Batch


def micro_batches(recipe: Recipe, sequences: int, data: int) -> int:
    """Micro-batches that each data-parallel rank computes for a batch of `sequences`."""
    parallel = recipe.parallel
    own = parallel.schedule_file is not None
    multiple = 1 if own else micro_batch_multiple(parallel.schedule, parallel.pipeline or 1)
    return padded_micro_batches(sequences, data, recipe.train.micro_batch_size or 1, multiple)


def own_samples(recipe: Recipe, batch: Batch, ranks: Ranks) -> list[range]:
    """The samples of each micro-batch of this rank; a range may be short, or empty."""
    size, end = recipe.train.micro_batch_size or 1, batch.first_sample + batch.sequences
    firsts = (
        batch.first_sample + (number * ranks.data_size + ranks.data_index) * size
        for number in range(micro_batches(recipe, batch.sequences, ranks.data_size))
    )
    return [range(min(first, end), min(first + size, end)) for first in firsts]


def read(samples: Samples, numbers: Sequence[int], size: int) -> MicroBatch:
    """These samples, and as many in which nothing counts as make `size`."""
    if isinstance(numbers, range) and len(numbers) == size:
        return samples.batch(numbers.start, size)
    rows = [samples.batch(number, 1) for number in numbers]
    nothing = blank(rows[0] if rows else samples.batch(0, 1))
    rows += [nothing] * (size - len(rows))
    return {name: torch.cat([row[name] for row in rows]) for name in nothing}
