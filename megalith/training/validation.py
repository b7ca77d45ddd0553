"""The validation loss in nats per token of held-out text, and the entropy of the token frequencies."""

import math

import numpy as np
from numpy.typing import NDArray

from megalith.parallel import DistributedModel
from megalith.tokens.stream import TokenStream
from megalith.training.data import Samples, counts, read_samples

TOGETHER = 32  # micro-batches of a rank that are scored at a time
TOKENS = 2**20  # counted at a time


def validation_loss(model: DistributedModel, samples: Samples, total: int, count: int, micro_batch_size: int) -> float:
    """Nats per predicted token (per masked one of a BERT model) over `count` of the `total` samples, evenly spread.

    The same number on every rank. They score equally many micro-batches of one shape, filled up with samples that do
    not count.
    """
    ranks = model.ranks
    chosen = [place * total // count for place in range(count)] if count < total else list(range(total))
    needed = math.ceil(len(chosen) / (micro_batch_size * ranks.data_size))
    nats, predicted = 0.0, 0.0
    for first in range(0, needed, TOGETHER):
        own = []
        for number in range(first, min(first + TOGETHER, needed)):
            place = (number * ranks.data_size + ranks.data_index) * micro_batch_size
            own.append(read_samples(samples, chosen[place : place + micro_batch_size], micro_batch_size))
        nats += float(model.evaluate(own)[0])
        predicted += sum(counts(batch)[0] for batch in own) if ranks.is_first_reader else 0.0
    nats, predicted = ranks.sum(nats, predicted)
    return nats / predicted


def unigram_entropy(stream: TokenStream, vocab_size: int) -> float:
    """−Σ p ln p in nats, p the frequencies of the tokens of a stream but the first, which a GPT model predicts.

    No model that ignores the context does better on these tokens: a loss above this has learned nothing but counts.
    """
    counted: NDArray[np.int64] = np.zeros(vocab_size, dtype=np.int64)
    for first in range(1, len(stream), TOKENS):
        counted += np.bincount(stream[first : first + TOKENS].astype(np.int64), minlength=vocab_size)
    p = counted[counted > 0] / counted.sum()
    return float(-(p * np.log(p)).sum())
