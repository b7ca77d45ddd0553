"""Answers in OpenAI's form: completions and chat, whole and as chunks of a stream."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from megalith.serving.choices import LEAST_LOGPROB, Piece, ShownToken
from megalith.serving.spelling import Spelling


class CompletionForm:
    """The form of `/v1/completions`."""

    def __init__(self, model: str, spelling: Spelling, *, logprobs: bool) -> None:
        self._head = _head("cmpl", "text_completion", model)
        self._spelling = spelling
        self._logprobs = logprobs

    def whole(self, pieces: Sequence[Piece], usage: Mapping[str, int]) -> dict[str, Any]:
        """The answer of all choices at once."""
        return {**self._head, "choices": [self._choice(*each) for each in enumerate(pieces)], "usage": usage}

    def chunks(self, index: int, piece: Piece, *, first: bool) -> list[dict[str, Any]]:
        """Further text of one choice in a stream."""
        del first
        return [{**self._head, "choices": [self._choice(index, piece)]}]

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """The chunk that counts the tokens at a stream's end."""
        return {**self._head, "choices": [], "usage": usage}

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        return {
            "index": index,
            "text": piece.text,
            "logprobs": self._columns(piece.tokens) if self._logprobs else None,
            "finish_reason": piece.finish,
        }

    def _columns(self, tokens: Sequence[ShownToken]) -> dict[str, Any]:
        return {
            "tokens": [self._spelling.name(one.token) for one in tokens],
            "token_logprobs": [None if one.logprob is None else _number(one.logprob) for one in tokens],
            "top_logprobs": [None if one.logprob is None else self._alternatives(one) for one in tokens],
            "text_offset": [one.offset for one in tokens],
        }

    def _alternatives(self, shown: ShownToken) -> dict[str, float]:
        """The most likely tokens by name, and the one that is there; of two with one name the likelier."""
        found: dict[str, float] = {}
        own = (shown.token, shown.logprob if shown.logprob is not None else LEAST_LOGPROB)
        for token, logprob in (*shown.top, own):
            name = self._spelling.name(token)
            found[name] = max(found.get(name, LEAST_LOGPROB), _number(logprob))
        return found


class ChatForm:
    """The form of `/v1/chat/completions`."""

    def __init__(self, model: str, spelling: Spelling, *, logprobs: bool) -> None:
        self._model = model
        self._head = _head("chatcmpl", "chat.completion", model)
        self._spelling = spelling
        self._logprobs = logprobs

    def whole(self, pieces: Sequence[Piece], usage: Mapping[str, int]) -> dict[str, Any]:
        """The answer of all choices at once."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": piece.text, "refusal": None},
                "logprobs": self._content(piece.tokens),
                "finish_reason": piece.finish,
            }
            for index, piece in enumerate(pieces)
        ]
        return {**self._head, "choices": choices, "usage": usage}

    def chunks(self, index: int, piece: Piece, *, first: bool) -> list[dict[str, Any]]:
        """Further text of one choice in a stream: who speaks, before the first of it, and the end by itself."""
        deltas: list[tuple[dict[str, Any], Sequence[ShownToken], str | None]] = []
        if first:
            deltas.append(({"role": "assistant", "content": ""}, (), None))
        if piece.text or piece.tokens:
            deltas.append(({"content": piece.text}, piece.tokens, None))
        if piece.finish is not None:
            deltas.append(({}, (), piece.finish))
        head = {**self._head, "object": "chat.completion.chunk"}
        return [
            {
                **head,
                "choices": [
                    {
                        "index": index,
                        "delta": delta,
                        "logprobs": self._content(tokens) if tokens else None,
                        "finish_reason": finish,
                    }
                ],
            }
            for delta, tokens, finish in deltas
        ]

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """The chunk that counts the tokens at a stream's end."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _content(self, tokens: Sequence[ShownToken]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        content = [
            {
                **self._named(one.token, LEAST_LOGPROB if one.logprob is None else one.logprob),
                "top_logprobs": [self._named(*each) for each in one.top],
            }
            for one in tokens
        ]
        return {"content": content, "refusal": None}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        spelt = self._spelling.bytes_of(token)
        return {"token": self._spelling.name(token), "logprob": _number(logprob), "bytes": list(spelt)}


def _head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _number(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
