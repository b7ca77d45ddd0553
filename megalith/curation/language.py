"""The language of a text, by pycld2 (MT-NLG §3.1 uses it on Common Crawl)."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

import pycld2

UNKNOWN = "un"
_ISO = {"iw": "he", "jw": "jv", "zh-Hant": "zh", "sr-ME": "sr", "mo": "ro"}  # CLD2's own codes


@dataclass(frozen=True)
class Language:
    """The main language of a text, and the share of its bytes in each language found."""

    code: str
    shares: dict[str, float]


def identify(text: str) -> Language:
    """The languages of a text, by ISO 639-1 code; `un` where CLD2 cannot tell."""
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
    return Language(max(shares, key=lambda code: shares[code], default=UNKNOWN), shares)


def reason_to_drop(language: Language, kept: Collection[str], minimum_share: float) -> str | None:
    """Why to drop a text of which less than `minimum_share` is in one of `kept`; an empty `kept` keeps every text."""
    if not kept or sum(language.shares.get(code, 0.0) for code in kept) >= minimum_share:
        return None
    return "languages mixed" if language.code in kept else f"language {language.code}"


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign)[0] != "C")
