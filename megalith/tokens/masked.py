"""Samples of a masked language model (Devlin et al. 2018, §3.1) with ALBERT's sentence order (Lan et al. 2019, §3.1),
which is what Megatron-LM trains its BERTs on (§5.3): a pure function of (seed, sample number), like all samples here.

A sample is [CLS] A [SEP] B [SEP]: A and B are two consecutive pieces of one document, cut at a random place, and put
in the wrong order half of the time. Windows come in the order of `order.py`. The document that holds the middle token
of a window gives the sample: its tokens nearest to the middle, as many as fit. So no sample crosses documents, a
document shorter than the window comes whole, and only then is there padding. Longer documents are met in proportion
to their length; one shorter than a window is met whole once in window ÷ length epochs.

15 % of the tokens of A and B are targets. Of these 80 % are replaced by [MASK], 10 % by a random token, 10 % are left.
Not done: whole-word and n-gram masks, BERT's share of short sequences, several documents in a sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from megalith.errors import RecipeError
from megalith.tokens.loader import IGNORE
from megalith.tokens.order import GOLDEN, keys, mix, window_starts, windows_per_epoch
from megalith.tokens.shards import Shards
from megalith.tokens.stream import want_tokens
from megalith.tokens.tokenizer import SpecialTokens

MASKED_SHARE = 0.15
_MASKED, _RANDOM = 8, 9  # of ten chosen tokens: the first 8 are [MASK], the next one is random, the last is left
_FRAME = 3  # [CLS] and two [SEP]
_SHORTEST = _FRAME + 2  # a token each for A and B
_CHANCE = 0x4D4C4D  # keeps the masks' chance apart from the order's


class MaskedBatch(TypedDict):
    """Samples of T places; arrays of int64."""

    tokens: NDArray[np.int64]
    """(B, T): [CLS] A [SEP] B [SEP], masked, then [PAD]."""
    targets: NDArray[np.int64]
    """(B, T): the token that was there, where one is to be predicted, else IGNORE."""
    segments: NDArray[np.int64]
    """(B, T): 1 for the second piece and its [SEP], else 0."""
    lengths: NDArray[np.int64]
    """(B,): places before the padding."""
    order: NDArray[np.int64]
    """(B,): 1 where the second piece came first in the document, else 0; IGNORE where the text is one token."""


@dataclass(frozen=True)
class MaskedWindows:
    """The samples of a BERT's training run."""

    shards: Shards
    sequence_length: int
    seed: int
    vocab_size: int
    """Entries of the tokenizer: random tokens are any of them but special ones."""
    special: SpecialTokens

    def __post_init__(self) -> None:
        _check(self, "training")

    @property
    def per_epoch(self) -> int:
        """Windows in one epoch."""
        return windows_per_epoch(self.shards.tokens, self.sequence_length - _FRAME)

    def batch(self, first_sample: int, count: int) -> MaskedBatch:
        """Samples first_sample … first_sample + count − 1. Any range gives what the ranges that it is made of give.

        Raises InputError when the shards' index is damaged where it is read.
        """
        samples = np.arange(first_sample, first_sample + count, dtype=np.uint64)
        length = self.sequence_length - _FRAME
        starts = window_starts(samples, self.shards.tokens, length, self.seed)
        return _samples(self, (starts + length // 2) % self.shards.tokens, samples)


@dataclass(frozen=True)
class ValidationMaskedWindows:
    """The windows of a held-out text in order, with masks that never change."""

    shards: Shards
    sequence_length: int
    seed: int
    vocab_size: int
    special: SpecialTokens

    def __post_init__(self) -> None:
        _check(self, "validation")

    def __len__(self) -> int:
        """Windows."""
        return -(-self.shards.tokens // (self.sequence_length - _FRAME))

    def batch(self, first_window: int, count: int) -> MaskedBatch:
        """Windows first_window … first_window + count − 1 (fewer at the end)."""
        windows = np.arange(first_window, max(first_window, min(first_window + count, len(self))))
        length = self.sequence_length - _FRAME
        middles = np.minimum(windows * length + length // 2, self.shards.tokens - 1)
        return _samples(self, middles, windows.astype(np.uint64))

    def batches(self, size: int) -> Iterator[MaskedBatch]:
        """All windows, `size` at a time."""
        for first in range(0, len(self), size):
            yield self.batch(first, size)


def _samples(
    windows: MaskedWindows | ValidationMaskedWindows, middles: NDArray[np.int64], samples: NDArray[np.uint64]
) -> MaskedBatch:
    """The samples around some places of the stream, each with the chance of its own number."""
    length = windows.sequence_length
    texts = _texts(windows.shards, middles, length - _FRAME, windows.special.end_of_text)
    counts = np.array([len(text) for text in texts], dtype=np.int64)  # (B,) tokens of A and B
    sample_keys = keys(windows.seed + _CHANCE, samples)
    chance = mix(sample_keys[:, None] + np.arange(1, length + 3, dtype=np.uint64) * GOLDEN)  # (B, T + 2)
    cuts = 1 + (chance[:, 0] % np.maximum(counts - 1, 1).astype(np.uint64)).astype(np.int64)
    swapped = (chance[:, 1] % np.uint64(2) == 1) & (counts > 1)
    firsts = np.where(swapped, counts - cuts, np.minimum(cuts, counts))  # (B,) tokens of the piece that stands first
    tokens = np.full((len(texts), length), windows.special.pad, dtype=np.int64)
    tokens[:, 0] = windows.special.cls
    for row, (text, cut, turn, first) in enumerate(
        zip(texts, cuts.tolist(), swapped.tolist(), firsts.tolist(), strict=True)
    ):
        one, two = (text[cut:], text[:cut]) if turn else (text[:cut], text[cut:])
        tokens[row, 1 : first + 1] = one
        tokens[row, first + 1] = windows.special.sep
        tokens[row, first + 2 : len(text) + 2] = two
        tokens[row, len(text) + 2] = windows.special.sep
    columns = np.arange(length)
    second = (columns > firsts[:, None] + 1) & (columns < counts[:, None] + _FRAME)  # (B, T)
    ordinary = (columns > 0) & (columns < counts[:, None] + 2) & (columns != firsts[:, None] + 1)
    return MaskedBatch(
        targets=_mask(tokens, ordinary, counts, chance[:, 2:], windows.vocab_size, windows.special),
        tokens=tokens,
        segments=second.astype(np.int64),
        lengths=counts + _FRAME,
        order=np.where(counts > 1, swapped.astype(np.int64), IGNORE),
    )


def _texts(shards: Shards, middles: NDArray[np.int64], most: int, end_of_text: int) -> list[NDArray[Any]]:
    """Up to `most` tokens of the document at each place, nearest to it; the `<|endoftext|>` that closes it is left out
    where there is anything else."""
    texts = []
    for middle in middles.tolist():
        first, end = shards.find(middle)
        start = max(first, min(middle - most // 2, end - most))
        stop = min(start + most, end)
        text = shards.stream[start:stop]
        closes = stop == end and len(text) > 1 and text[-1] == end_of_text
        texts.append(text[:-1] if closes else text)
    return texts


def _mask(
    tokens: NDArray[np.int64],
    ordinary: NDArray[np.bool_],
    counts: NDArray[np.int64],
    chance: NDArray[np.uint64],
    vocab_size: int,
    special: SpecialTokens,
) -> NDArray[np.int64]:
    """Mask 15 % of each row's ordinary tokens (at least one) in place. Returns the targets, (B, T)."""
    chances = np.where(ordinary, chance, np.uint64(2**64 - 1))
    chosen_counts = np.maximum(1, np.floor(MASKED_SHARE * counts + 0.5).astype(np.int64))
    bounds = np.take_along_axis(np.sort(chances, axis=1), chosen_counts[:, None] - 1, axis=1)
    chosen = ordinary & (chances <= bounds)
    targets = np.where(chosen, tokens, IGNORE)
    dice = mix(chances[chosen] + GOLDEN)
    kinds = dice % np.uint64(10)
    replacements = (dice // np.uint64(10) % np.uint64(vocab_size - len(special.ids))).astype(np.int64)
    for number in special.ids:  # in rising order: skip over each
        replacements += replacements >= number
    replacements = np.where(kinds < _MASKED, special.mask, replacements)
    tokens[chosen] = np.where(kinds < _RANDOM, replacements, tokens[chosen])
    return targets


def _check(windows: MaskedWindows | ValidationMaskedWindows, split: str) -> None:
    want_tokens(windows.shards.stream, split)
    if windows.sequence_length < _SHORTEST:
        raise RecipeError(
            f"sequence_length {windows.sequence_length} has no room for [CLS] A [SEP] B [SEP].",
            where="model.sequence_length",
            mend=f"Set it to {_SHORTEST} or more.",
        )
