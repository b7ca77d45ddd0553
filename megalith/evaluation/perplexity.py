"""Perplexity: of documents each by itself, and of one long text by Megatron-LM's protocol.

By that protocol a text is read in windows that move by `stride` tokens; nothing stands in front of it, its first token
is not scored, and its nats are divided by the words of the text as it was, less one. Blocks of windows are the items.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from megalith.evaluation.document import Document
from megalith.evaluation.scoring import Result, Scoring
from megalith.evaluation.texts import Text
from megalith.inference import LocalScorer, rolling
from megalith.inference.likelihoods import log_likelihoods
from megalith.inference.spans import Window, stride_of, windows_of


def judge_texts(scoring: Scoring, texts: Sequence[Text], stride: int | None) -> list[Result]:
    """The nats, tokens and bytes of each document."""
    found = rolling(
        scoring.lm,
        [text.text for text in texts],
        scoring.batch_tokens,
        stride,
        prefix=scoring.prefix,
        batch_invariant=scoring.batch_invariant,
        scorer=scoring.scorer,
    )
    return [
        {"id": text.id, "nats": round(one.nats, 6), "tokens": one.tokens, "bytes": one.bytes}
        for text, one in zip(texts, found, strict=True)
    ]


class Blocks:
    """A long text as blocks of windows, each of which scores about one context of tokens."""

    def __init__(self, scoring: Scoring, document: Document, stride: int | None) -> None:
        self._scoring, self._lm = scoring, scoring.lm
        limit = self._lm.config.sequence_length
        self.stride = stride or stride_of(limit)
        self._ids = np.array(self._lm.tokenizer.encode(document.prompt), np.int32)
        windows = windows_of(0, len(self._ids), 1, limit, self.stride, aligned=True)
        each = max(1, limit // self.stride)
        self.blocks = [windows[at : at + each] for at in range(0, len(windows), each)]
        tokens = [sum(window.end - window.first for window in block) for block in self.blocks]
        self._tokens = tokens
        self._words = apportioned(int(document.fields["words"]) - 1, tokens)
        unscored = self._lm.token_bytes[self._ids[0]] if self._lm.token_bytes else 0
        self._bytes = apportioned(len(document.prompt.encode()) - unscored, tokens)

    def judge(self, places: Sequence[int]) -> list[Result]:
        """Nats and tokens of some of the blocks, with their part of the text's words and bytes."""
        windows = [
            Window(owner, window.begin, window.first, window.end)
            for owner, place in enumerate(places)
            for window in self.blocks[place]
        ]
        groups = [[window for window in windows if window.owner == owner] for owner in range(len(places))]
        nats = np.zeros(len(places))
        for known in log_likelihoods(
            self._lm,
            self._scoring.scorer or LocalScorer(self._lm),
            [self._ids] * len(places),
            groups,
            self._scoring.batch_tokens,
            batch_invariant=self._scoring.batch_invariant,
        ):
            nats = -known.log_probabilities
        return [
            {
                "id": f"block-{place}",
                "nats": round(float(cost), 6),
                "tokens": self._tokens[place],
                "bytes": self._bytes[place],
                "words": self._words[place],
            }
            for place, cost in zip(places, nats, strict=True)
        ]


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """Whole parts of `total` in proportion to the weights, which sum up to it."""
    whole = sum(weights)
    ends = [0, *(round(total * reached / whole) for reached in accumulate(weights))]
    return [end - begin for begin, end in pairwise(ends)]
