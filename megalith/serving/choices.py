"""One choice of an answer: its text, and the log-probability of each of its tokens, as events of the engine come in.

A token is shown together with the text where it begins. The last token (the end of the text, or some part of a
character) is shown though it adds no text, so that `token_logprobs` has one number for each token that was drawn; of
tokens that lie beyond a stop none is shown.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from megalith.inference import TokenEvent
from megalith.serving.spelling import Spelled, Spelling

LEAST_LOGPROB = -9999.0
"""Stands for an infinite one, which JSON cannot tell."""
Finish = Literal["stop", "length"]
Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class ShownToken:
    """A token of an answer."""

    token: int
    logprob: float | None
    """None for the first token of a prompt."""
    top: Top
    offset: int
    """Characters of the answer's text before the one in which the token begins."""


@dataclass
class Piece:
    """Further text of a choice."""

    text: str = ""
    tokens: list[ShownToken] = field(default_factory=list)
    finish: Finish | None = None

    def __iadd__(self, later: "Piece") -> "Piece":
        self.text += later.text
        self.tokens += later.tokens
        self.finish = later.finish
        return self


class Choice:
    """Text and tokens of one sequence so far.

    `wanted` is the number of tokens that were asked for: at 0 the one that the engine draws is not shown.
    """

    def __init__(
        self, spelling: Spelling, prompt: Sequence[int], *, echo: bool, wanted: int, ends: Collection[int]
    ) -> None:
        self._spelling = spelling
        self._spelled = Spelled(spelling)
        self._prompt = prompt
        self._echo = echo
        self._wanted = wanted
        self._ends = ends
        self._held: list[ShownToken] = []
        self._shown = 0
        self._begun = False
        self.drawn = 0
        """Tokens that the model has drawn."""
        self.finished = False

    def add(self, event: TokenEvent, prompt_logprobs: Sequence[tuple[float, Top]] | None) -> Piece:
        """Return what an event adds; `prompt_logprobs` are those of the prompt's tokens but the first."""
        piece = self._begin(prompt_logprobs) if not self._begun else Piece()
        if self._wanted == 0:
            piece.finish = "length"
            self.finished = True
            return piece
        self.drawn += 1
        (spelt,) = self._spelled.add([event.token])
        self._held.append(_shown(event.token, event.logprob, event.top, spelt.offset))
        piece.text += event.text
        self._shown += len(event.text)
        piece.finish = event.finish
        self.finished = event.finish is not None
        whole = event.finish == "length" or (event.finish == "stop" and event.token in self._ends)
        ready = len(self._held) if whole else sum(1 for token in self._held if token.offset < self._shown)
        piece.tokens += self._held[:ready]
        self._held = self._held[ready:]
        return piece

    def _begin(self, prompt_logprobs: Sequence[tuple[float, Top]] | None) -> Piece:
        self._begun = True
        if not self._echo:
            return Piece()
        text, spelt = self._spelling.text(self._prompt)
        self._spelled = Spelled(self._spelling, len(text))
        self._shown = len(text)
        known: list[tuple[float | None, Top]] = [(None, ())]
        known += prompt_logprobs if prompt_logprobs is not None else [(None, ())] * (len(spelt) - 1)
        tokens = [
            _shown(one.token, logprob, top, one.offset) for one, (logprob, top) in zip(spelt, known, strict=False)
        ]
        return Piece(text, tokens)


def _shown(token: int, logprob: float | None, top: Top, offset: int) -> ShownToken:
    logprob = dict(top).get(token, logprob)  # the very same number, for clients that compare the two
    return ShownToken(token, logprob, top, offset)
