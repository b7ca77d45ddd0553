"""Tokens as text: the bytes and the name of each, and where each begins in the text that they make together.

A token may end, or begin, within a character. Its bytes then have no text of their own; such a token is named
`bytes:\\xe2\\x80`, as in OpenAI's completions.
"""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from megalith.tokens import Tokenizer


@dataclass(frozen=True)
class Spelt:
    """One token in a text."""

    token: int
    offset: int
    """Characters of the text before the one in which it begins."""
    text: str
    """The characters that are whole with this token; "" within a character."""


class Spelling:
    """The bytes and names of a tokenizer's tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = tokenizer.token_bytes

    def bytes_of(self, token: int) -> bytes:
        """The UTF-8 of a token; some part of a character where it holds no more."""
        if self._bytes is None:
            return self._tokenizer.decode([token]).encode()
        return self._bytes[token]

    def name(self, token: int) -> str:
        """The text of a token, or `bytes:\\x…` where its bytes are no whole characters."""
        spelt = self.bytes_of(token)
        try:
            return spelt.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)

    def text(self, tokens: Iterable[int]) -> tuple[str, list[Spelt]]:
        """The text of a prompt's tokens, and where each begins in it."""
        spelled = Spelled(self)
        found = spelled.add(tokens)
        text = "".join(one.text for one in found) + spelled.end()
        whole = self._tokenizer.decode([one.token for one in found])
        if text != " " + whole:
            return text, found
        # sentencepiece's manner: the first token's space is no part of the text
        return whole, [Spelt(one.token, max(0, one.offset - 1), one.text) for one in found]


class Spelled:
    """Tokens spelt one after another, in a text that has `characters` before them."""

    def __init__(self, spelling: Spelling, characters: int = 0) -> None:
        self._spelling = spelling
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._characters = characters

    def add(self, tokens: Iterable[int]) -> list[Spelt]:
        """Spell further tokens."""
        found = []
        for token in tokens:
            text = self._decoder.decode(self._spelling.bytes_of(token))
            found.append(Spelt(token, self._characters, text))
            self._characters += len(text)
        return found

    def end(self) -> str:
        """U+FFFD for the bytes of a character that was never whole, or ""."""
        return self._decoder.decode(b"", final=True)
