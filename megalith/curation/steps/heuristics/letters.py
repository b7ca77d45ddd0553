"""The classes of Unicode characters in the rules, as one table of bits over all code points."""

import functools
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

from megalith.ngrams.sentences import SENTENCE_TERMINAL
from megalith.ngrams.words import unspaced

Array = npt.NDArray[Any]

SPACE, ALPHABETIC, PLAIN, TERMINAL, WATCHED, UNSPACED, MARK = 1, 2, 4, 8, 16, 32, 64
"""White space; letters; no punctuation, symbol or control character; ends a sentence; see `_WATCHED`; letters of a
script that puts no spaces between words; marks on the letter before."""


@functools.cache
def kinds() -> Array:
    """The bits of each code point, uint8 (0x110000,)."""
    table = np.zeros(0x110000, np.uint8)
    for code in range(len(table)):
        letter = chr(code)
        if letter.isspace():
            table[code] = SPACE
        elif letter.isalpha():
            table[code] = ALPHABETIC | PLAIN
        elif unicodedata.category(letter)[0] not in "PSC":
            table[code] = PLAIN | MARK if unicodedata.category(letter)[0] == "M" else PLAIN
    table[unspaced()] |= UNSPACED
    for first, last in SENTENCE_TERMINAL:
        table[first : last + 1] |= TERMINAL
    for letter in _WATCHED:
        table[ord(letter)] |= WATCHED
    return table


_WATCHED = "#.{jJkKvVfFpP"  # what is counted, and a rare letter of each phrase that is looked for
