"""The text of a growing sequence of tokens, given out as soon as later tokens cannot change it.

Held back are the bytes of a character that is not whole yet, and letters that may become a stop. What is given out,
joined, does not depend on where the borders between tokens lie.
"""

import codecs
from collections.abc import Sequence

from megalith.tokens import Tokenizer


class TextStream:
    """Tokens in, text out. Where tokens do not keep all of the text (WordPiece), it comes at the end."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._bytes = tokenizer.token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []
        self._held = ""

    def push(self, token: int) -> tuple[str, bool]:
        """Give the new text, and whether a stop has ended it."""
        if self._bytes is not None:
            own = self._bytes[token] if token < len(self._bytes) else b""
            return self._up_to_a_stop(self._held + self._utf8.decode(own))
        self._ids.append(token)
        given, stopped = self._up_to_a_stop(self._tokenizer.decode(self._ids, after_text=True))
        return (given, True) if stopped else ("", False)

    def finish(self) -> tuple[str, bool]:
        """Give what was held back, and whether a stop has ended it; for a text that none has ended."""
        if self._bytes is not None:
            text = self._held + self._utf8.decode(b"", final=True)
        else:
            text = self._tokenizer.decode(self._ids, after_text=True)
        given, stopped = self._up_to_a_stop(text)
        return (given, True) if stopped else (text, False)

    def _up_to_a_stop(self, text: str) -> tuple[str, bool]:
        """Split at the stop that is whole first; without one, hold back what may become one."""
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            return text[: min(found)[1]], True
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of the text with which the stop begins, less than the whole stop."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
