"""The marks that the rules look for at one place of a text: stop words, sentence and line ends, phrases.

Each is asked about where its rarest letter or its end stands, so that most bytes are asked nothing.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.curation.steps.heuristics.letters import TERMINAL
from megalith.ngrams.words import decode_before

Array = npt.NDArray[Any]

_STOP_WORDS_PACKED = np.array(  # Gopher §A1.1
    [int.from_bytes(word.encode(), "big") for word in ("the", "be", "to", "of", "and", "that", "have", "with")],
    np.uint32,
)
_BULLET = np.frombuffer("•".encode(), np.uint8)
_ELLIPSIS = np.frombuffer("…".encode(), np.uint8)
_CITATION = np.frombuffer(b"[citation needed]", np.uint8)
_EDIT = np.frombuffer(b"[edit]", np.uint8)
_AVASCRIPT = np.frombuffer(b"avascript", np.uint8)
_COO, _IE, _POLICY = (np.frombuffer(part, np.uint8) for part in (b"coo", b"ie", b" policy"))
_USE, _USES, _USE_OF = (np.frombuffer(part, np.uint8) for part in (b"use ", b"uses ", b"use of "))
_PRI, _ACY_POLICY = (np.frombuffer(part, np.uint8) for part in (b"pri", b"acy policy"))
_TERMS_O, _F_USE = (np.frombuffer(part, np.uint8) for part in (b"terms o", b" use"))
_LOREM_I, _SUM = (np.frombuffer(part, np.uint8) for part in (b"lorem i", b"sum"))


@numba.njit(cache=True, nogil=True)
def stop_word(data: Array, start: int, size: int) -> int:
    """One bit for the stop word that stands here."""
    packed = np.uint32(0)
    for at in range(start, start + size):
        packed = packed << np.uint32(8) | np.uint32(data[at] | 32)
    for word in range(8):
        if packed == _STOP_WORDS_PACKED[word]:
            return 1 << word
    return 0


@numba.njit(cache=True, nogil=True)
def ends_sentence(data: Array, start: int, end: int, kinds: Array) -> bool:
    """Whether the last character of a word is a sentence's end, quotation marks and brackets behind it aside."""
    while end > start:
        code, at = decode_before(data, end)
        if kinds[code] & TERMINAL:
            return True
        if not (
            code == 34
            or code == 39
            or code == 41
            or code == 93
            or code == 0x2019
            or code == 0x201D
            or code == 187
            or code == 0x201C
            or code == 0x300D
            or code == 0x300F
            or code == 0xFF09
        ):
            return False
        end = at
    return False


@numba.njit(cache=True, nogil=True)
def is_terminated(data: Array, start: int, end: int, kinds: Array) -> bool:
    """Whether a line ends as C4 wants it: in . ! ? or a quotation mark and no ellipsis, citation marks aside; or as
    such lines end in other scripts."""
    while end > start and data[end - 1] == 93:
        digits = end - 2
        while digits >= start and 48 <= data[digits] <= 57:
            digits -= 1
        if digits >= start and data[digits] == 91:
            end = digits
        elif _precedes(data, end, start, _EDIT):
            end -= len(_EDIT)
        elif _precedes(data, end, start, _CITATION):
            end -= len(_CITATION)
        else:
            break
    if end == start:
        return False
    final = data[end - 1]
    if final == 46:
        return not (end - start >= 3 and data[end - 2] == 46 and data[end - 3] == 46)
    if final < 0x80:
        return bool(final == 33 or final == 63 or final == 34)
    code, _ = decode_before(data, end)
    return bool(
        kinds[code] & TERMINAL or code == 187 or code == 0x201C or code == 0x201D or code == 0x300D or code == 0x300F
    )


@numba.njit(cache=True, nogil=True)
def is_ellipsis(data: Array, start: int, end: int) -> bool:
    """Whether a line ends with an ellipsis, of three full stops or of one character."""
    if end - start < 3:
        return False
    if data[end - 1] == 46:
        return bool(data[end - 2] == 46 and data[end - 3] == 46)
    return _follows_exactly(data, end - 3, end, _ELLIPSIS)


@numba.njit(cache=True, nogil=True)
def names_policy(data: Array, at: int, first: int, last: int, letter: np.uint32) -> bool:
    """Whether one of C4's six phrases has its rarest letter here: its k, v or f."""
    if letter == 107:
        if not (_precedes(data, at, first, _COO) and _follows(data, at + 1, last, _IE)):
            return False
        if _follows(data, at + 3, last, _POLICY):
            return True
        if at + 3 >= last or data[at + 3] | 32 != 115:  # cookies
            return False
        cookie = at - 3
        return (
            _precedes(data, cookie, first, _USE)
            or _precedes(data, cookie, first, _USES)
            or _precedes(data, cookie, first, _USE_OF)
        )
    if letter == 118:
        return _precedes(data, at, first, _PRI) and _follows(data, at + 1, last, _ACY_POLICY)
    return _precedes(data, at, first, _TERMS_O) and _follows(data, at + 1, last, _F_USE)


@numba.njit(cache=True, nogil=True)
def is_bullet(data: Array, start: int, last: int) -> bool:
    """Whether a line begins with a bullet or a hyphen."""
    return bool(data[start] == 45) or _follows_exactly(data, start, last, _BULLET)


@numba.njit(cache=True, nogil=True)
def names_javascript(data: Array, at: int, last: int) -> bool:
    """Whether a j is that of JavaScript."""
    return _follows(data, at + 1, last, _AVASCRIPT)


@numba.njit(cache=True, nogil=True)
def names_lorem_ipsum(data: Array, at: int, first: int, last: int) -> bool:
    """Whether a p is that of lorem ipsum."""
    return _precedes(data, at, first, _LOREM_I) and _follows(data, at + 1, last, _SUM)


@numba.njit(cache=True, nogil=True)
def _precedes(data: Array, at: int, first: int, phrase: Array) -> bool:
    start = at - len(phrase)
    return start >= first and _follows(data, start, at, phrase)


@numba.njit(cache=True, nogil=True)
def _follows(data: Array, at: int, last: int, phrase: Array) -> bool:
    """Whether the phrase, which is in lower case, stands here in any."""
    if at + len(phrase) > last:
        return False
    for index in range(len(phrase)):
        byte = data[at + index]
        if 65 <= byte <= 90:
            byte |= 32
        if byte != phrase[index]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _follows_exactly(data: Array, at: int, last: int, phrase: Array) -> bool:
    if at + len(phrase) > last:
        return False
    same = 0
    for index in range(len(phrase)):
        same += data[at + index] == phrase[index]
    return same == len(phrase)
