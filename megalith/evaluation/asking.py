"""A question as the model reads it: with its solved examples, in the forms that are wanted, and no longer than fits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.prompts import LETTERS, choices, listed
from megalith.evaluation.shots import Shot, ShotPlan, ShotPool, choose_shots, with_shots
from megalith.inference import LanguageModel

TooLong = Literal["drop_shots", "left", "error"]
_SLACK = 16  # tokens by which parts that are tokenised apart may have fewer than the whole
_ANSWER = re.compile(r"\s*\b(answer|a):\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """One document as it is asked."""

    document: Document
    """Without solved examples."""
    shown: Document
    """With them."""
    shots: tuple[Shot, ...]
    dropped: int
    """Solved examples that were left out, the furthest from the question first, since the prompt was too long."""
    letter: Document | None
    """The letter form with the same examples; None where it is not wanted."""


class Asker:
    """Puts solved examples of a pool before documents."""

    def __init__(
        self,
        lm: LanguageModel,
        pool: Sequence[Document],
        plan: ShotPlan,
        *,
        separator: str,
        too_long: TooLong,
        letters: bool,
        generated_tokens: int = 0,
    ) -> None:
        """`generated_tokens` are kept free for an answer."""
        self._lm, self._pool, self._plan, self._separator = lm, ShotPool(pool), plan, separator
        self._too_long, self._letters = too_long, letters
        # a prefix is one token more, and the last token is not read
        self._room = lm.config.sequence_length - generated_tokens
        self._counted: dict[str, int] = {}

    def shots(self, document: Document) -> tuple[Shot, ...]:
        """The solved examples before any is dropped. Raises InputError as `choose_shots` does."""
        return choose_shots(document, self._pool, self._plan)

    def ask(self, document: Document) -> Asked:
        """The document with its examples. Raises InputError where it is too long, and `too_long` is "error"."""
        shots = self.shots(document)
        kept = self._fitting(document, shots)
        letter = lettered(document) if self._letters else None
        if letter is not None:
            drawn = choose_shots(letter, self._lettered_pool, self._plan)
            letter = with_shots(letter, self._fitting(letter, drawn), self._separator)
        shown = with_shots(document, kept, self._separator)
        if self._letters and letter is None:  # the task's own answers are letters
            letter = shown
        return Asked(document, shown, kept, len(shots) - len(kept), letter)

    def _tokens(self, text: str) -> int:
        return len(self._lm.tokenizer.encode(text)) if text else 0

    def _tokens_of_shot(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self._tokens(text + self._separator)
        return self._counted[text]

    @cached_property
    def _lettered_pool(self) -> ShotPool:
        return ShotPool([lettered(one) or one for one in self._pool])

    def _fitting(self, document: Document, shots: tuple[Shot, ...]) -> tuple[Shot, ...]:
        """The shots without the first of them, until the prompt fits."""
        about = self._tokens(_longest(document)) + self._tokens(document.preamble)
        about += sum(self._tokens_of_shot(shot.text) for shot in shots)
        for first in range(len(shots) + 1):
            if about <= self._room - _SLACK:
                return shots[first:]
            tokens = self._tokens(_longest(with_shots(document, shots[first:], self._separator)))
            if tokens <= self._room:
                return shots[first:]
            if self._too_long == "left":
                return shots
            if self._too_long == "error":
                raise InputError(
                    f"the prompt of {document.id} has {tokens:,} tokens, and the model reads {self._room:,} before an "
                    "answer ends.",
                    where="evaluate.too_long",
                    mend="Set it to drop_shots or left, or set fewer shots.",
                )
            about = tokens - (self._tokens_of_shot(shots[first].text) if first < len(shots) else 0)
        return ()


def lettered(document: Document) -> Document | None:
    """The question with its options listed, to be answered by letter; None where the answers are letters already."""
    options = document.options or tuple(choice.continuation.strip() for choice in document.choices)
    letters = tuple(f" {letter}" for letter in LETTERS[: len(options)])
    if tuple(choice.continuation for choice in document.choices) == letters:
        return None
    if len(options) > len(LETTERS):
        raise InputError(
            f"{len(options)} choices are more than there are letters.",
            where=document.id,
            mend="Remove letter from evaluate.forms.",
        )
    stem = document.stem or _ANSWER.sub("", document.prompt).rstrip()
    form = choices(listed(stem, options), letters, document.gold, preamble=document.preamble)
    return replace(form, id=document.id, label=document.label, group=document.group, fields=document.fields)


def _longest(document: Document) -> str:
    """The longest text that is read for the document."""
    texts = [choice.context + choice.continuation for choice in document.choices]
    return max(texts, key=len, default=document.prompt)
