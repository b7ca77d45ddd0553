"""The model under audit: what scores continuations and writes text. Planted models in tests do the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from megalith.inference import Advance, LanguageModel, Request, Score, generate, score


class Subject(Protocol):
    """Anything that can be audited."""

    def score(self, requests: Sequence[Request]) -> list[tuple[Score, ...]]:
        """Score every continuation, in the order of the requests."""

    def write(
        self, prompts: Sequence[str], tokens: int, seed: int, *, temperature: float = 1.0, top_p: float | None = None
    ) -> list[str]:
        """Continue every prompt by at most `tokens` tokens; temperature 0 takes the likeliest token."""


@dataclass(frozen=True)
class LanguageSubject:
    """A language model, with the tokens of a batch and a call for progress."""

    lm: LanguageModel
    batch_tokens: int
    advance: Advance = lambda done, total: None

    def score(self, requests: Sequence[Request]) -> list[tuple[Score, ...]]:
        return score(self.lm, requests, self.batch_tokens, self.advance)

    def write(
        self, prompts: Sequence[str], tokens: int, seed: int, *, temperature: float = 1.0, top_p: float | None = None
    ) -> list[str]:
        return generate(self.lm, prompts, tokens=tokens, temperature=temperature, top_p=top_p, seed=seed)
