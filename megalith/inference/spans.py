"""The tokens that are scored: where a text begins, where its context ends, and the windows that a model reads.

Context and continuation are tokenised together, as in training. With the safe boundary, a token that spans the join is
scored whole, and all continuations of a request are scored from the same boundary, so that they can be compared. With
lm-eval's, trailing white space of the context belongs to the continuation, and the scored tokens of the whole are those
after as many as the context alone has. Where tokens do not keep all of the text (WordPiece), the safe boundary is the
number of tokens of the context alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError
from megalith.inference.load import LanguageModel
from megalith.tokens.tokenizer import utf8_bytes, whole_characters

Prefix = Literal["auto", "none", "bos", "eot"]
Boundary = Literal["safe", "lm_eval"]
Ids = NDArray[np.int32]

_TOGETHER = 256  # requests that are tokenised at a time


@dataclass(frozen=True)
class Request:
    """One context and the continuations (none of them empty) that are scored after it."""

    context: str
    continuations: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.continuations or not all(self.continuations):
            raise ValueError("a request needs continuations, and none may be empty")


@dataclass(frozen=True)
class Span:
    """A tokenised context and continuation; tokens from `first` on are scored."""

    ids: Ids
    first: int
    bytes: int
    characters: int
    straddled: bool

    def is_longer_than(self, limit: int) -> bool:
        """Whether a model that reads `limit` tokens does not see all of it at once."""
        return len(self.ids) - 1 > limit


@dataclass(frozen=True)
class Window:
    """Tokens begin … end − 2 of a span are read, and first … end − 1 are scored."""

    owner: int
    begin: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """How many tokens are read."""
        return self.end - 1 - self.begin

    def read(self, ids: Ids) -> Ids:
        """The tokens that the model reads, of all the span's."""
        return ids[self.begin : self.end - 1]


def spans_of(lm: LanguageModel, requests: Sequence[Request], prefix: Prefix, boundary: Boundary) -> list[Span]:
    """The span of every continuation, in the order of the requests."""
    return list(_spans(lm, requests, prefix, boundary))


def in_front(lm: LanguageModel, prefix: Prefix, *, scores_first: bool) -> list[int]:
    """The tokens before a text's own; `scores_first`: its first token is scored, so that one has to be there."""
    tokenizer = lm.tokenizer
    begin = tokenizer.conventions.begin_of_text
    if prefix == "eot":
        return [tokenizer.end_of_text]
    if prefix == "bos":
        return [tokenizer.first if begin is None else begin]
    if prefix == "auto" and tokenizer.prefix is not None:
        return [tokenizer.prefix]
    return [tokenizer.first] if scores_first else []


def stride_of(limit: int) -> int:
    """The tokens by which windows of a long text move: ¾ of the context."""
    return max(1, limit * 3 // 4)


def windows_of(owner: int, length: int, first: int, limit: int, stride: int, *, aligned: bool = False) -> list[Window]:
    """Return windows of at most `limit` tokens that score each of the tokens first … length − 1 once.

    The last one reads `limit` tokens too, or, `aligned`, begins `stride` tokens after the one before it.
    """
    if first < length <= first + limit:  # the scored span fits in one window: the context is cut
        whole = Window(owner, max(0, length - 1 - limit), first, length)
        return [whole]
    windows: list[Window] = []
    end = min(length, first + limit)
    while first < length:
        begin = windows[-1].begin + stride if aligned and windows else max(0, end - 1 - limit)
        windows.append(Window(owner, begin, first, end))
        first, end = end, min(length, end + stride)
    return windows


def _spans(lm: LanguageModel, requests: Sequence[Request], prefix: Prefix, boundary: Boundary) -> Iterator[Span]:
    for at in range(0, len(requests), _TOGETHER):
        some = requests[at : at + _TOGETHER]
        contexts = [whole_characters(request.context) for request in some]
        texts = [
            [context + whole_characters(continuation) for continuation in request.continuations]
            for context, request in zip(contexts, some, strict=True)
        ]
        if boundary == "lm_eval":
            contexts = [context.rstrip() for context in contexts]
        encoded = iter(lm.tokenizer.encode_batch([text for own in texts for text in own]))
        alone = iter(lm.tokenizer.encode_batch(contexts)) if boundary == "lm_eval" or not lm.token_bytes else None
        for context, own in zip(contexts, texts, strict=True):
            ids = list(islice(encoded, len(own)))
            begins = [_begins(lm, row, text) for row, text in zip(ids, own, strict=True)]
            length = None if alone is None else len(next(alone))
            if boundary == "lm_eval":
                assert length is not None
                boundaries = [min(length, len(row) - 1) for row in ids]
            else:
                boundaries = [_safe_boundary(lm, context, ids, begins, length)] * len(ids)
            if not all(ids):
                raise InputError(
                    f"the tokenizer has no tokens for {min(own, key=len)!r}.", where="continuations", mend="Remove it."
                )
            for text, row, starts, place in zip(own, ids, begins, boundaries, strict=True):
                yield _span(lm, prefix, text, len(context.encode()), row, starts, place)


def _span(
    lm: LanguageModel, prefix: Prefix, text: str, join: int, ids: list[int], starts: list[int] | None, boundary: int
) -> Span:
    begin = join if starts is None else starts[boundary]
    scored = text.encode()[begin:]
    characters = len(scored.decode(errors="ignore"))  # a token may begin within a character
    before = in_front(lm, prefix, scores_first=boundary == 0)
    return Span(
        np.array([*before, *ids], np.int32), boundary + len(before), len(scored), characters, straddled=begin != join
    )


def _safe_boundary(
    lm: LanguageModel, context: str, encoded: list[list[int]], begins: list[list[int] | None], alone: int | None
) -> int:
    """The number of leading tokens that are context to all continuations; `alone`: those of the context by itself."""
    join = len(context.encode())
    known = [starts for starts in begins if starts is not None]
    if len(known) == len(begins):
        boundary = min(_token_at(starts, join) if join else 0 for starts in known)
    else:
        length = len(lm.tokenizer.encode(context)) if alone is None else alone
        boundary = min(length, *(len(ids) - 1 for ids in encoded))
    shared = [len(set(column)) == 1 for column in zip(*(ids[:boundary] for ids in encoded), strict=True)]
    return shared.index(False) if False in shared else boundary


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
