"""Plain prose in six languages, of sentences written for these tests, and edits of it.

A sentence is an opening, what is told and a close, each one of many; a document repeats none of what is told.
"""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

_SENTENCES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
LANGUAGES = tuple(_SENTENCES)
SENTENCES = 12
_GAP = {"zh": "", "ja": "", "th": ""}


def document(language: str, seed: int, sentences: int = SENTENCES, part: str = "all") -> str:
    """A document of up to three paragraphs. Those of the `first` part and of the `rest` have no phrase in common."""
    draws = random.Random(f"{language} {seed}")
    fourth = {name: len(some) // 4 for name, some in _SENTENCES[language].items()}
    parts = {
        name: some[: fourth[name]] if part == "first" else some[fourth[name] if part == "rest" else 0 :]
        for name, some in _SENTENCES[language].items()
    }
    columns = [draws.sample(some * (1 + sentences // len(some)), sentences) for some in parts.values()]
    made = ["".join(sentence) for sentence in zip(*columns, strict=True)]
    third = -(-sentences // 3)
    gap = _GAP.get(language, " ")
    return "\n\n".join(gap.join(made[at : at + third]).strip() for at in range(0, sentences, third))


def scattered(language: str, text: str, seed: int, share: float = 0.02) -> str:
    """The text with so large a share of its characters changed, each by itself, into other letters of the language."""
    places = [at for at, letter in enumerate(text) if letter.isalpha()]
    return _changed(language, text, random.Random(f"edit {seed}").sample(places, round(share * len(text))), seed)


def in_a_row(language: str, text: str, seed: int, share: float = 0.02) -> str:
    """The text with so large a share of its characters changed, all in one place."""
    size = round(share * len(text))
    start = random.Random(f"edit {seed}").randrange(len(text) - size)
    return _changed(language, text, range(start, start + size), seed)


def _changed(language: str, text: str, places: Iterable[int], seed: int) -> str:
    draws = random.Random(f"letters {seed}")
    letters = sorted({letter for told in _SENTENCES[language]["told"] for letter in told if letter.isalpha()})
    changed = list(text)
    for at in places:
        changed[at] = draws.choice([letter for letter in letters if letter != text[at]])
    return "".join(changed)


def mixed(language: str, seed: int, sentences: int = SENTENCES) -> str:
    """A text of the same words in an order of its own: documents have words in common, and hardly a phrase."""
    draws = random.Random(f"mixed {language} {seed}")
    told = "".join(_SENTENCES[language]["told"] + _SENTENCES[language]["openings"])
    gap = _GAP.get(language, " ")
    words = " ".join(_SENTENCES[language]["told"]).split() if gap else re.findall(r"[^\W\d_]\w{1,3}", told)
    size = len(document(language, seed, sentences)) // (sum(map(len, words)) // len(words) + len(gap))
    made = draws.choices(words, k=size)
    ends = "。" if language in ("zh", "ja") else "।" if language == "hi" else " " if language == "th" else "."
    return (ends + gap).join(gap.join(made[at : at + 12]) for at in range(0, size, 12)) + ends
