"""Embeddings of texts: the mean of a model's last hidden states over the first tokens of each, at unit length.

The model is any that we hold, a GPT or a BERT; its heads are not used. A BERT reads `[CLS] text [SEP]` and all of it
counts, as in sentence-transformers; a GPT reads its prefix, if it has one, which does not count. Texts go through in
batches of about the same length. Everything runs on one thread, so that the last bits do not depend on how many there
are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.errors import InputError
from megalith.inference.load import load_weights, model_digests
from megalith.model import BERT, GPT, Transformer
from megalith.tokens import Tokenizer

BATCH_TOKENS = 4096
"""A batch has so many, padding included: a layer's activations are a few megabytes, and stay in the cache."""
CHARACTERS_PER_TOKEN = 32
"""No more of a text is tokenized; where tokens are longer than that, fewer of them are looked at."""


class Embedder:
    """A model that embeds texts."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, digests: Mapping[str, str]) -> None:
        """Take a model in evaluation mode. Raises InputError for a BERT whose tokenizer lacks `[CLS]` and `[SEP]`."""
        if isinstance(model, BERT) and tokenizer.special is None:
            raise InputError(
                "this tokenizer lacks [PAD], [CLS], [SEP] or [MASK], which a BERT reads around a text.",
                where="tokenizer.json",
                mend="Name the directory of a whole model.",
            )
        self.model, self.tokenizer = model, tokenizer
        self.digests = digests
        """SHA-256 of each of the model's files."""

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return self.model.config.hidden

    def embed(self, texts: Sequence[str], tokens: int) -> np.ndarray:
        """The embeddings (texts, E) of the first `tokens` tokens of each text, fp32, of length 1.

        Raises InputError where one is not finite.
        """
        ids = self._ids(texts, min(tokens, self.model.config.sequence_length))
        made = np.empty((len(ids), self.width), np.float32)
        with one_thread(), torch.inference_mode():
            for places in _batches([len(each) for each in ids]):
                made[places] = self._pooled([ids[place] for place in places]).numpy()
        if not np.isfinite(made).all():
            raise InputError("embeddings of this model are not finite: its training diverged.", where="model")
        return made

    def _ids(self, texts: Sequence[str], most: int) -> list[list[int]]:
        found = self.tokenizer.encode_batch([text[: most * CHARACTERS_PER_TOKEN] for text in texts])
        special = self.tokenizer.special
        if isinstance(self.model, BERT) and special is not None:
            return [[special.cls, *ids[: most - 2], special.sep] for ids in found]
        return [self.tokenizer.with_prefix(ids)[:most] for ids in found]

    def _pooled(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """The mean features (B, E) of some texts' ids, at unit length."""
        lengths = torch.tensor([len(each) for each in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, each in enumerate(ids):
            padded[row, : len(each)] = torch.tensor(each)
        counted = torch.arange(padded.shape[1]) < lengths.unsqueeze(1)  # (B, T)
        if isinstance(self.model, BERT):
            features = self.model.features(padded, torch.zeros_like(padded), lengths)  # (B, T, E)
        else:
            assert isinstance(self.model, GPT)
            features = self.model.features(padded)  # what is padded stands behind, where no token looks
            if self.tokenizer.prefix is not None:
                counted[:, 0] &= lengths == 1
        features = features.float().masked_fill(~counted.unsqueeze(-1), 0.0)
        return F.normalize(features.sum(1) / counted.sum(1, keepdim=True), dim=-1)


def load_embedder(directory: Path) -> Embedder:
    """The embedder of one of our models: a train artifact, an imported model, a checkpoint.

    Raises InputError as `inference.load` does.
    """
    model, tokenizer = load_weights(directory)
    return Embedder(model, tokenizer, model_digests(directory))


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts, the shortest first, as many at a time as fill a batch."""
    held: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if held and (len(held) + 1) * lengths[place] > BATCH_TOKENS:
            yield held
            held = []
        held.append(place)
    if held:
        yield held
