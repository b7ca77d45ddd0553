"""The language of a text: by pycld2 (MT-NLG §3.1 uses it on Common Crawl), or by a fastText model that the user gives.

Why pycld2: docs/decisions/021-language.md. Nothing is fetched: fastText's model of 176 languages (lid.176) is a file
that the user names, read as quality models are.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pycld2

from megalith.curation.text.fasttext import read_fasttext

UNKNOWN = "un"
LABEL = "__label__"
LEAST_SHARE = 0.01
_ISO = {"iw": "he", "jw": "jv", "zh-Hant": "zh", "sr-ME": "sr", "mo": "ro"}  # CLD2's own codes


@dataclass(frozen=True)
class Language:
    """The main language of a text, and the share of its bytes in each language found.

    Of a fastText model the shares are probabilities: it judges a text as a whole.
    """

    code: str
    shares: dict[str, float]


Identifier = Callable[[pa.Array], list[Language]]
"""The languages of each text of an array of strings."""


def identifier(model: Path | None = None) -> Identifier:
    """pycld2, or the fastText model in a file; to be made once a process. Raises InputError for a file that is none."""
    if model is None:
        return lambda texts: [identify(text) for text in texts.to_pylist()]
    held = read_fasttext(model)
    codes = [label.removeprefix(LABEL) for label in held.labels]

    def by_model(texts: pa.Array) -> list[Language]:
        found = []
        for row in held.probabilities(texts):
            shares = {codes[place]: min(1.0, float(row[place])) for place in (row >= LEAST_SHARE).nonzero()[0]}
            found.append(Language(_largest(shares), shares))
        return found

    return by_model


def identify(text: str) -> Language:
    """The languages of a text by pycld2, in ISO 639-1 codes; `un` where it cannot tell."""
    try:
        _, _, found = pycld2.detect(text)
    except pycld2.error:  # it refuses characters that are not for interchange
        try:
            _, _, found = pycld2.detect(_printable(text))
        except pycld2.error:
            return Language(UNKNOWN, {})
    shares: dict[str, float] = {}
    for _, code, percent, _ in found:
        if percent:
            name = _ISO.get(code, code)
            shares[name] = shares.get(name, 0.0) + percent / 100
    return Language(_largest(shares), shares)


def _largest(shares: dict[str, float]) -> str:
    return max(shares, key=lambda code: shares[code], default=UNKNOWN)


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign)[0] != "C")
