"""Log-likelihoods under a language model: of continuations given their contexts, and of whole documents.

Context and continuation are tokenised together, as in training. If a token spans the join, the scored span begins with
that token; all continuations of a request are scored from the same boundary, so that they can be compared. Where tokens
do not keep all of the text (WordPiece), the boundary is the number of tokens of the context alone.

A text begins with the model's own prefix, which for a model that Megalith trained is the end-of-text token, as before a
document in training. A model without one reads a token that begins a text only where the first token is scored.

Log-softmax is in fp32 over the vocabulary without its padding. Texts of similar length are batched; rows are padded on
the right, which a causal model does not see, so a score does not depend on its batch (except in fp32's last bits).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from megalith.inference.load import LanguageModel, not_finite
from megalith.tokens.tokenizer import utf8_bytes, whole_characters

Advance = Callable[[int, int], object]
"""Called after each batch with the finished windows and their total."""

_ROWS = 256  # logits are computed for this many tokens at a time, to fit a CPU's caches


@dataclass(frozen=True)
class Request:
    """One context and the continuations (none of them empty) that are scored after it."""

    context: str
    continuations: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.continuations or not all(self.continuations):
            raise ValueError("a request needs continuations, and none may be empty")


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
    """Whether a token spans the join, so that the scored span begins within the context."""
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
    lm: LanguageModel, requests: Sequence[Request], batch_tokens: int, advance: Advance = lambda done, total: None
) -> list[tuple[Score, ...]]:
    """Score every continuation, in the order of the requests."""
    limit = lm.config.sequence_length
    spans = [span for request in requests for span in _spans(lm, request)]
    windows = [
        window
        for owner, span in enumerate(spans)
        for window in _windows(owner, len(span.ids), span.first, limit, _stride(limit))
    ]
    nats, greedy = _judge(lm, [span.ids for span in spans], windows, batch_tokens, advance)
    scores = iter(
        Score(
            log_probability=-nats[owner],
            greedy=greedy[owner],
            tokens=len(span.ids) - span.first,
            bytes=span.bytes,
            characters=span.characters,
            straddled=span.straddled,
            truncated=len(span.ids) - 1 > limit,
        )
        for owner, span in enumerate(spans)
    )
    return [tuple(next(scores) for _ in request.continuations) for request in requests]


def rolling(
    lm: LanguageModel,
    texts: Sequence[str],
    batch_tokens: int,
    stride: int | None = None,
    advance: Advance = lambda done, total: None,
) -> list[Rolled]:
    """Measure the nats, tokens and bytes of each text, with its first token and without its end-of-text token.

    A text longer than the context is read in windows that move by `stride` tokens (default: ¾ of sequence_length),
    so that each token after the first window has at least sequence_length − stride tokens before it.
    """
    limit = lm.config.sequence_length
    ids = [[lm.tokenizer.first, *row] for row in lm.tokenizer.encode_batch(texts)]
    windows = [
        window
        for owner, row in enumerate(ids)
        for window in _windows(owner, len(row), 1, limit, stride or _stride(limit))
    ]
    nats, _ = _judge(lm, ids, windows, batch_tokens, advance)
    return [
        Rolled(nats[owner], len(row) - 1, utf8_bytes(text))
        for owner, (row, text) in enumerate(zip(ids, texts, strict=True))
    ]


@dataclass(frozen=True)
class _Span:
    """A tokenised context and continuation; tokens from `first` on are scored."""

    ids: list[int]
    first: int
    bytes: int
    characters: int
    straddled: bool


@dataclass(frozen=True)
class _Window:
    """Tokens begin … end − 2 are read, and first … end − 1 are scored."""

    owner: int
    begin: int
    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - 1 - self.begin


def _spans(lm: LanguageModel, request: Request) -> list[_Span]:
    context = whole_characters(request.context)
    texts = [context + whole_characters(continuation) for continuation in request.continuations]
    encoded = lm.tokenizer.encode_batch(texts)
    join = len(context.encode())
    begins = [_begins(lm, ids, text) for ids, text in zip(encoded, texts, strict=True)]
    boundary = (
        min(_token_at(starts, join) if join else 0 for starts in begins if starts is not None)
        if all(starts is not None for starts in begins)
        else min(len(lm.tokenizer.encode(context)), *(len(ids) - 1 for ids in encoded))
    )
    shared = [len(set(column)) == 1 for column in zip(*(ids[:boundary] for ids in encoded), strict=True)]
    boundary = shared.index(False) if False in shared else boundary
    spans = []
    for text, ids, starts in zip(texts, encoded, begins, strict=True):
        begin = join if starts is None else starts[boundary]
        span = text.encode()[begin:]
        characters = len(span.decode(errors="ignore"))  # a token may begin within a character
        before = [lm.tokenizer.first] if boundary == 0 or lm.tokenizer.prefix is not None else []
        spans.append(_Span([*before, *ids], boundary + len(before), len(span), characters, begin < join))
    return spans


def _begins(lm: LanguageModel, ids: Sequence[int], text: str) -> list[int] | None:
    """Return the byte at which each token begins, and the text's length; None where tokens do not keep all of it.

    In sentencepiece's manner the first token may have a space that the text does not.
    """
    if not lm.token_bytes:
        return None
    ends = list(accumulate(lm.token_bytes[number] for number in ids))
    added = (ends[-1] if ends else 0) - utf8_bytes(text)
    return [0, *(end - added for end in ends)] if added in (0, 1) else None


def _token_at(begins: Sequence[int], byte: int) -> int:
    """Return the index of the token that contains a byte."""
    return next(index for index, end in enumerate(begins[1:]) if end > byte)


def _stride(limit: int) -> int:
    return max(1, limit * 3 // 4)


def _windows(owner: int, length: int, first: int, limit: int, stride: int) -> list[_Window]:
    """Return windows of at most `limit` tokens that score each of the tokens first … length − 1 once."""
    if first < length <= first + limit:  # the scored span fits in one window: the context is cut
        whole = _Window(owner, max(0, length - 1 - limit), first, length)
        return [whole]
    windows = []
    end = min(length, first + limit)
    while first < length:
        windows.append(_Window(owner, max(0, end - 1 - limit), first, end))
        first, end = end, min(length, end + stride)
    return windows


def _judge(
    lm: LanguageModel, ids: Sequence[list[int]], windows: list[_Window], batch_tokens: int, advance: Advance
) -> tuple[list[float], list[bool]]:
    """Return the nats of each owner's scored tokens, and whether all of them are first choices."""
    nats = [0.0] * len(ids)
    greedy = [True] * len(ids)
    done = 0
    for batch in _batches(windows, batch_tokens):
        for window, (cost, first_choice) in zip(batch, _forward(lm, ids, batch), strict=True):
            nats[window.owner] += cost
            greedy[window.owner] &= first_choice
        if not all(math.isfinite(nats[window.owner]) for window in batch):
            raise not_finite()
        done += len(batch)
        advance(done, len(windows))
    return nats, greedy


def _batches(windows: list[_Window], batch_tokens: int) -> list[list[_Window]]:
    """Batch windows of similar length, the longest first; a batch has at least one window."""
    batches: list[list[_Window]] = []
    for window in sorted(windows, key=lambda window: -window.length):
        if batches and (len(batches[-1]) + 1) * batches[-1][0].length <= batch_tokens:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


@torch.inference_mode()
def _forward(lm: LanguageModel, ids: Sequence[list[int]], batch: list[_Window]) -> list[tuple[float, bool]]:
    tokens = torch.full((len(batch), batch[0].length), lm.tokenizer.end_of_text)  # (B, T)
    rows: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for row, window in enumerate(batch):
        known = ids[window.owner]
        tokens[row, : window.length] = torch.tensor(known[window.begin : window.end - 1])
        rows += [row] * (window.end - window.first)
        places += range(window.first - 1 - window.begin, window.end - 1 - window.begin)
        targets += known[window.first : window.end]
    features = lm.model.features(tokens)[torch.tensor(rows), torch.tensor(places)]  # (N, E)
    costs, hits = _costs(features, lm.model.output_weight[: lm.config.vocab_size], torch.tensor(targets))
    sizes = [window.end - window.first for window in batch]
    return [
        (float(cost.double().sum()), bool(hit.all()))
        for cost, hit in zip(torch.split(costs, sizes), torch.split(hits, sizes), strict=True)
    ]


def _costs(features: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return −log P of each target (N), and whether it is the first choice; features (N, E), weight (V, E)."""
    costs, hits = [], []
    for x, wanted in zip(torch.split(features, _ROWS), torch.split(targets, _ROWS), strict=True):
        logits = torch.mm(x, weight.T).float()  # (R, V)
        costs.append(logits.logsumexp(-1) - logits.gather(-1, wanted[:, None])[:, 0])
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(costs), torch.cat(hits)
