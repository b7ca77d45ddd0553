"""The evaluation items of an expedition, cut verbatim from its held-out documents.

`last_word`, in LAMBADA's spirit: a passage whose last word is a real word that stands earlier in the passage.
`continuation`: a passage and four ways on, of which one is the text's own and three are from other passages.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from megalith.curation.keyed_draws import draw, draws
from megalith.recipe import TaskItemsConfig

CHOICES = 4
ITEMS_PER_DOCUMENT = 8


@dataclass(frozen=True)
class LastWord:
    """`context` and `target` together stand so in the document."""

    id: str
    document: str
    context: str
    target: str
    """With the space before it."""

    @property
    def texts(self) -> list[str]:
        """The text that training must not have seen."""
        return [f"{self.context}{self.target}"]


@dataclass(frozen=True)
class Continuation:
    """`context` and `choices[answer]` together stand so in the document."""

    id: str
    document: str
    context: str
    choices: list[str]
    """Each with the space before it."""
    answer: int

    @property
    def texts(self) -> list[str]:
        """The texts that training must not have seen: the passage, and the wrong continuations."""
        wrong = [choice for place, choice in enumerate(self.choices) if place != self.answer]
        return [f"{self.context}{self.choices[self.answer]}", *wrong]


def cut_items(
    documents: Iterable[tuple[str, str]], config: TaskItemsConfig, seed: int
) -> tuple[list[LastWord], list[Continuation]]:
    """At most `config.most` items of each task from `documents` (id, text), sorted by id.

    Passages are drawn by the document's id and the place in it, so the order of the documents is of no account.
    """
    last_words: list[LastWord] = []
    stretches: list[_Stretch] = []
    for document, text in documents:
        prose = list(_prose(text))
        last_words += _few(_last_words(document, text, prose, config), ITEMS_PER_DOCUMENT, seed)
        stretches += _few(_stretches(document, text, prose, config), ITEMS_PER_DOCUMENT, seed)
    stretches.sort(key=lambda stretch: stretch.id)
    continuations = [_continuation(stretch, stretches, seed) for stretch in _few(stretches, config.most, seed)]
    return (
        sorted(_few(last_words, config.most, seed), key=lambda item: item.id),
        sorted((item for item in continuations if item), key=lambda item: item.id),
    )


@dataclass(frozen=True)
class _Stretch:
    """A context and how the text goes on."""

    id: str
    document: str
    context: str
    continuation: str


_Span = tuple[int, int]
_WORD = re.compile(r"\S+")
_SENTENCE_START = re.compile(r"""(?<=[.!?])["'”’)]?\s+(?=["'“‘(]?[A-Z])""")
_SENTENCE_END = re.compile(r"[a-z)][.!?](?=\s|$)")
_CODE = r"(?:async )?[\w.]+\(.*\)(?: ->.*| from .*| method.*)?|\w+(?:\.\w+)*"  # a signature, or a name alone
_BREAK = re.compile(rf"\n\s*\n[ \t]*|^[ \t]*(?P<code>{_CODE})(?:\n[ \t]*|\Z)", re.MULTILINE)
_LAST_WORD = re.compile(r"(?<= )[A-Za-z]{4,}(?=[.!?](?:\s|$))")


def _prose(text: str) -> Iterator[_Span]:
    """The stretches of consecutive paragraphs that read as sentences; a line of code ends a stretch."""
    opened: _Span | None = None
    start = 0
    for gap in [*_BREAK.finditer(text), None]:
        end = gap.start() if gap else len(text)
        code = gap is not None and gap["code"] is not None
        if text[start:end].strip():
            if not _reads_well(text[start:end]):
                if opened:
                    yield opened
                opened = None
            else:
                opened = (opened[0] if opened else start, end)
        if opened and (code or gap is None):
            yield opened
            opened = None
        start = gap.end() if gap else end


def _reads_well(paragraph: str) -> bool:
    """Mostly letters, in sentences that begin and end."""
    signs = [sign for sign in paragraph if not sign.isspace()]
    letters = sum(sign.isalpha() for sign in signs)
    sentences = len(_SENTENCE_END.findall(paragraph))
    return paragraph[:1].isupper() and letters >= 0.85 * len(signs) and sentences * 45 >= len(paragraph.split())


def _last_words(document: str, text: str, spans: Iterable[_Span], config: TaskItemsConfig) -> Iterator[LastWord]:
    """Sentence ends that close a passage of the right length and a word that stands in it before; no two overlap."""
    fewest, most = config.passage_words
    for start, end in spans:
        openings = [start, *(found.end() for found in _SENTENCE_START.finditer(text, start, end))]
        used = start
        for last in _LAST_WORD.finditer(text, start, end):
            for place in range(bisect_left(openings, last.start()) - 1, bisect_left(openings, used) - 1, -1):
                context = text[openings[place] : last.start() - 1]
                length = len(context.split()) + 1
                if length > most:
                    break
                if length >= fewest and _holds(context, last[0]):
                    yield LastWord(f"{document}-{last.start()}", document, context, f" {last[0]}")
                    used = last.end()
                    break


def _holds(passage: str, word: str) -> bool:
    return re.search(rf"\b{word}\b", passage, re.IGNORECASE) is not None


def _stretches(document: str, text: str, spans: Iterable[_Span], config: TaskItemsConfig) -> Iterator[_Stretch]:
    """Passages from a sentence start, cut before a word that follows a plain space; no two overlap."""
    for start, end in spans:
        openings = [start, *(found.end() for found in _SENTENCE_START.finditer(text, start, end))]
        used = start
        for opening in openings:
            stretch = _stretch(document, text, (opening, end), config) if opening >= used else None
            if stretch:
                yield stretch
                used = opening + len(stretch.context) + len(stretch.continuation)


def _stretch(document: str, text: str, span: _Span, config: TaskItemsConfig) -> _Stretch | None:
    start, end = span
    fewest, most = config.context_words
    places = [found.span() for found in islice(_WORD.finditer(text, start, end), most + config.continuation_words)]
    for count in range(fewest, len(places) - config.continuation_words + 1):
        context_end = places[count - 1][1]
        if text[context_end : places[count][0]] == " ":
            last = places[count + config.continuation_words - 1][1]
            return _Stretch(f"{document}-{start}", document, text[start:context_end], text[context_end:last])
    return None


def _continuation(stretch: _Stretch, others: Sequence[_Stretch], seed: int) -> Continuation | None:
    """The item of a stretch, with the ways on of three of `others`, which are in the order of their ids.

    They are of other documents as far as there are any.
    """
    drawn = draws(seed, stretch.id, (other.id for other in others))
    of_its_document = np.array([other.document == stretch.document for other in others])
    choices = {stretch.continuation: None}
    for at in np.lexsort((drawn, of_its_document)).tolist():
        choices[others[at].continuation] = None
        if len(choices) == CHOICES:
            break
    else:
        return None
    answer, *wrong = choices
    place = int(draw(seed, "answer", stretch.id) * CHOICES)
    return Continuation(stretch.id, stretch.document, stretch.context, [*wrong[:place], answer, *wrong[place:]], place)


class _Passage(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def context(self) -> str: ...


_P = TypeVar("_P", bound=_Passage)


def _few(found: Iterable[_P], limit: int, seed: int) -> list[_P]:
    """At most `limit` of those found, by their draws; none with the context of another."""
    by_id = sorted(found, key=lambda one: one.id)
    unlike: dict[str, _P] = {}
    for place in draws(seed, "item", (one.id for one in by_id)).argsort(kind="stable").tolist():
        unlike.setdefault(by_id[place].context, by_id[place])
    return list(unlike.values())[:limit]
