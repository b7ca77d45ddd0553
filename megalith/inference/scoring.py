"""Log-likelihoods under a language model: of continuations given their contexts, and of whole documents.

What texts begin with in common is read once: see `prefix_tree`. Rows of a pass are not padded to the longest, and a
causal model does not see what comes after, so that a score does not depend on its batch, except in fp32's last bits;
with `batch_invariant` not in those either.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np

from megalith.inference.likelihoods import log_likelihoods
from megalith.inference.load import LanguageModel
from megalith.inference.scorer import LocalScorer, Scorer
from megalith.inference.spans import Boundary, Prefix, Request, Span, in_front, spans_of, stride_of, windows_of
from megalith.tokens.tokenizer import utf8_bytes

Advance = Callable[[int, int], object]
"""Called after each pass with how many requests, or tokens of whole texts, are finished, and their total."""

MEGATRON_STRIDE = 32
"""Megatron-LM's default of `--overlapping-eval`."""
_CHARACTERS = 16_000_000  # of texts whose tokens are held at a time


@dataclass(frozen=True)
class Score:
    """The score of one continuation. Counts refer to the scored span."""

    log_probability: float
    """Nats: the natural logarithm of P(span | what precedes it)."""
    greedy: bool
    """Whether each token of the span is the model's first choice."""
    tokens: int
    bytes: int
    """Bytes of UTF-8."""
    characters: int
    straddled: bool
    """Whether a token spans the join, so that the scored span does not begin where the continuation does."""
    truncated: bool
    """Whether the context was cut from the left to fit the model's sequence_length."""


@dataclass(frozen=True)
class Rolled:
    """A whole document under the model."""

    nats: float
    """Minus its log-probability."""
    tokens: int
    bytes: int


def score(
    lm: LanguageModel,
    requests: Sequence[Request],
    batch_tokens: int,
    advance: Advance = lambda done, total: None,
    *,
    prefix: Prefix = "auto",
    boundary: Boundary = "safe",
    batch_invariant: bool = False,
    scorer: Scorer | None = None,
) -> list[tuple[Score, ...]]:
    """Score every continuation, in the order of the requests.

    `prefix` is the token in front of every context. auto: the model's own convention, which for a model that Megalith
    trained is the end-of-text token, as before a document in training; none: nothing; bos: the token that begins a
    text; eot: the one that follows a document. Where the context is empty, and nothing would stand in front of the
    first token, the one that begins a text does, as with lm-eval.

    `boundary` says where a context ends: see `spans`. With `batch_invariant` a request's scores are the same bits
    whatever it is scored with, in any order and with any `batch_tokens`: then only the continuations of one request
    share what they read. `scorer` computes the scores in place of the model in this process.
    """
    found: list[tuple[Score, ...]] = [()] * len(requests)
    for place, scores in score_as_read(
        lm,
        requests,
        batch_tokens,
        advance,
        prefix=prefix,
        boundary=boundary,
        batch_invariant=batch_invariant,
        scorer=scorer,
    ):
        found[place] = scores
    return found


def score_as_read(
    lm: LanguageModel,
    requests: Sequence[Request],
    batch_tokens: int,
    advance: Advance = lambda done, total: None,
    *,
    prefix: Prefix = "auto",
    boundary: Boundary = "safe",
    batch_invariant: bool = False,
    scorer: Scorer | None = None,
) -> Iterator[tuple[int, tuple[Score, ...]]]:
    """Score as `score` does; each request's place comes with its scores as soon as they are known, in any order."""
    scorer = scorer or LocalScorer(lm)
    done = 0
    for places in _alike(requests):
        some = [requests[place] for place in places]
        spans = spans_of(lm, some, prefix, boundary)
        for found in _scored(lm, scorer, some, spans, batch_tokens, batch_invariant):
            yield from ((places[place], scores) for place, scores in found)
            done += len(found)
            advance(done, len(requests))


def rolling(
    lm: LanguageModel,
    texts: Sequence[str],
    batch_tokens: int,
    stride: int | None = None,
    advance: Advance = lambda done, total: None,
    *,
    prefix: Prefix = "auto",
    protocol: Literal["whole", "megatron"] = "whole",
    batch_invariant: bool = False,
    scorer: Scorer | None = None,
) -> list[Rolled]:
    """Measure the nats, tokens and bytes of each text, with its first token and without its end-of-text token.

    A text longer than the context is read in windows that move by `stride` tokens (default: ¾ of sequence_length),
    so that each token after the first window has at least sequence_length − stride tokens before it.

    By Megatron-LM's protocol (tasks/zeroshot_gpt, `--overlapping-eval`) the default is 32, nothing stands in front of
    a text whatever `prefix` is, and its first token is not scored.
    """
    limit = lm.config.sequence_length
    megatron = protocol == "megatron"
    before = [] if megatron else in_front(lm, prefix, scores_first=True)
    ids = [np.array([*before, *row], np.int32) for row in lm.tokenizer.encode_batch(texts)]
    step = stride or (min(MEGATRON_STRIDE, limit) if megatron else stride_of(limit))
    groups = [windows_of(owner, len(row), 1, limit, step, aligned=megatron) for owner, row in enumerate(ids)]
    nats = np.zeros(len(ids))
    for known in log_likelihoods(
        lm, scorer or LocalScorer(lm), ids, groups, batch_tokens, batch_invariant=batch_invariant
    ):
        nats = -known.log_probabilities
        advance(known.read, known.tokens)
    return [
        Rolled(float(nats[owner]), max(0, len(row) - 1), utf8_bytes(text))
        for owner, (row, text) in enumerate(zip(ids, texts, strict=True))
    ]


def _alike(requests: Sequence[Request]) -> Iterator[list[int]]:
    """The places of requests, those that begin alike side by side, as many at a time as tokens are held of."""
    some: list[int] = []
    size = 0
    for place in sorted(range(len(requests)), key=lambda place: requests[place].context):
        request = requests[place]
        some.append(place)
        size += sum(len(request.context) + len(continuation) for continuation in request.continuations)
        if size >= _CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some


def _scored(
    lm: LanguageModel,
    scorer: Scorer,
    requests: Sequence[Request],
    spans: Sequence[Span],
    batch_tokens: int,
    batch_invariant: bool,
) -> Iterator[list[tuple[int, tuple[Score, ...]]]]:
    """After each pass the requests that are scored, by number."""
    limit = lm.config.sequence_length
    firsts = [0, *accumulate(len(request.continuations) for request in requests)]
    groups = [
        [
            window
            for owner in range(first, end)
            for window in windows_of(owner, len(spans[owner].ids), spans[owner].first, limit, stride_of(limit))
        ]
        for first, end in pairwise(firsts)
    ]
    ids = [span.ids for span in spans]
    for known in log_likelihoods(lm, scorer, ids, groups, batch_tokens, batch_invariant=batch_invariant):
        yield [
            (
                number,
                tuple(
                    _score(spans[owner], float(known.log_probabilities[owner]), bool(known.greedy[owner]), limit)
                    for owner in range(firsts[number], firsts[number + 1])
                ),
            )
            for number in known.groups_done
        ]


def _score(span: Span, log_probability: float, greedy: bool, limit: int) -> Score:
    return Score(
        log_probability=log_probability,
        greedy=greedy,
        tokens=len(span.ids) - span.first,
        bytes=span.bytes,
        characters=span.characters,
        straddled=span.straddled,
        truncated=span.is_longer_than(limit),
    )
