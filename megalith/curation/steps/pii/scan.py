"""One pass over the bytes of a batch of texts for places where private data may stand; others judge what it is.

Every byte is looked at once, and from a place that looks promising at most a few hundred bytes either way, so the time
is linear in the text whatever it holds.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.words import utf8

Array = npt.NDArray[Any]

EMAIL, IPV4, IPV6, INTERNATIONAL, NORTH_AMERICAN, TOKEN, ASSIGNED = range(7)
"""Kinds of places. A TOKEN begins with its maker's mark; an ASSIGNED value is set to a name of secrets."""


def candidates(texts: pa.Array, emails: bool, ip_addresses: bool, phone_numbers: bool, keys: bool) -> Array:
    """int64 (places, 4): text, kind, first byte, byte after the last; in the order in which they start, nearly."""
    data, offsets = utf8(texts)
    room = 1024
    while True:
        found = np.empty((room, 4), np.int64)
        count = _scan(data, offsets, _CLASSES, emails, ip_addresses, phone_numbers, keys, _MARKS, _NAMES, found)
        if count <= room:
            return found[:count]
        room = count


_LETTER, _DIGIT, _LOCAL, _DOMAIN, _HEX, _TOKEN, _VALUE, _TRIGGER = (1 << place for place in range(8))
_LOCAL_MOST, _DOMAIN_MOST, _IPV6_MOST, _PHONE_MOST, _TOKEN_MOST = 64, 253, 45, 28, 4096
_TOKEN_FEWEST = 16


def _classes() -> Array:
    table = np.zeros(256, np.uint8)
    for byte in range(128):
        sign = chr(byte)
        table[byte] = (
            _LETTER * sign.isalpha()
            | _DIGIT * sign.isdigit()
            | _LOCAL * (sign.isalnum() or sign in "!#$%&'*+/=?^_`{|}~.-")
            | _DOMAIN * (sign.isalnum() or sign in ".-")
            | _HEX * (sign in "0123456789abcdefABCDEF")
            | _TOKEN * (sign.isalnum() or sign in "_-.")
            | _VALUE * (sign.isalnum() or sign in "_-.+/~!@#$%^&*")
            | _TRIGGER * (sign in "@=:+(-")
        )
    return table


def _padded(words: list[str]) -> Array:
    table = np.zeros((len(words), max(map(len, words)) + 1), np.uint8)
    for row, word in zip(table, words, strict=True):
        row[: len(word)] = list(word.encode())
    return table


_CLASSES = _classes()
_MARKS = _padded(
    [
        *("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
        *("AIza", "eyJ", "xox", "sk-", "sk_", "rk_", "npm_", "pypi-", "hf_"),
    ]
)
_NAMES = _padded(
    [name[::-1] for name in ("key", "token", "secret", "passwd", "password", "pwd", "credential", "credentials")]
)


@numba.njit(cache=True, nogil=True, inline="always")
def _is(classes: Array, byte: np.uint8, those: int) -> bool:
    return bool(classes[byte] & those)


@numba.njit(cache=True, nogil=True)
def _scan(
    data: Array,
    offsets: Array,
    classes: Array,
    emails: bool,
    ip_addresses: bool,
    phone_numbers: bool,
    keys: bool,
    marks: Array,
    names: Array,
    found: Array,
) -> int:
    """Write what there is room for; return how many there are."""
    count = 0
    first_of_mark = np.zeros(256, np.bool_)
    for mark in range(len(marks)):
        first_of_mark[marks[mark, 0]] = True
    for text in range(len(offsets) - 1):
        begin = offsets[text]
        end = offsets[text + 1]
        before = np.uint8(32)
        of_token = begin  # where the last token ended: in a token no other begins
        for at in range(begin, end):
            byte = data[at]
            kind = classes[byte]
            previous = before
            before = byte
            begins = keys and first_of_mark[byte] and at >= of_token
            begins &= not (_is(classes, previous, _LETTER | _DIGIT) or previous == 0x5F)
            if not (begins or kind & (_TRIGGER | _DIGIT)):
                continue
            first = at
            last = 0
            what = -1
            if byte == 0x40:
                if emails:
                    first, last = _email(data, begin, at, end, classes)
                    what = EMAIL
            elif byte == 0x3D or byte == 0x3A:
                if keys:
                    first, last = _assigned(data, begin, at, end, classes, names)
                    what = ASSIGNED
            elif byte == 0x2B:
                if phone_numbers and not _is(classes, previous, _LETTER | _DIGIT):
                    last = _international(data, at, end, classes)
                    what = INTERNATIONAL
            elif kind & _DIGIT or byte == 0x28:
                if _is(classes, previous, _LETTER | _DIGIT):
                    continue
                joined = previous == 0x2E or previous == 0x5F or previous == 0x2D
                ranged = previous == 0x2D and at - 2 >= begin and _is(classes, data[at - 2], _DIGIT)
                if ip_addresses and (ranged or not joined) and kind & _DIGIT:
                    last = _ipv4(data, at, end, classes)
                    what = IPV4
                    if not last and previous != 0x3A:
                        last = _ipv6(data, at, end, classes)
                        what = IPV6
                if not last and phone_numbers and not joined and previous != 0x2F and previous != 0x2B:
                    last = _north_american(data, at, end, classes)
                    what = NORTH_AMERICAN
            elif byte == 0x2D:
                if keys and previous != 0x2D and _begins_block(data, at, end):
                    last = at + 10
                    what = TOKEN
            else:
                for mark in range(len(marks)):
                    length = _matches(data, at, end, marks[mark])
                    if length:
                        last = at + length
                        while last < end and last < at + _TOKEN_MOST and classes[data[last]] & _TOKEN:
                            last += 1
                        of_token = last
                        last = 0 if last - at < _TOKEN_FEWEST else last
                        what = TOKEN
                        break
            if last > first:
                if count < len(found):
                    found[count, 0] = text
                    found[count, 1] = what
                    found[count, 2] = first - begin
                    found[count, 3] = last - begin
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _matches(data: Array, at: int, end: int, word: Array) -> int:
    """The length of the word if it stands here, else 0."""
    length = 0
    while word[length]:
        if at + length >= end or data[at + length] != word[length]:
            return 0
        length += 1
    return length


@numba.njit(cache=True, nogil=True)
def _begins_block(data: Array, at: int, end: int) -> bool:
    if at + 11 > end:
        return False
    for place in range(5):
        if data[at + place] != 0x2D:
            return False
    return bool(data[at + 5] == 0x42 and data[at + 6] == 0x45 and data[at + 7] == 0x47)  # BEG


@numba.njit(cache=True, nogil=True)
def _email(data: Array, begin: int, at: int, end: int, classes: Array) -> tuple[int, int]:
    """The characters of a local part before the @ and of a domain behind it."""
    first = at
    while first > begin and at - first <= _LOCAL_MOST and classes[data[first - 1]] & _LOCAL:
        first -= 1
    last = at + 1
    dots = 0
    while last < end and last - at <= _DOMAIN_MOST and classes[data[last]] & _DOMAIN:
        dots += data[last] == 0x2E
        last += 1
    if first == at or not dots:
        return at, 0
    return first, last


@numba.njit(cache=True, nogil=True)
def _assigned(data: Array, begin: int, at: int, end: int, classes: Array, names: Array) -> tuple[int, int]:
    """The value behind = or :, if the name before it ends as those of secrets do."""
    name = at
    while (
        name > begin and at - name < 4 and (data[name - 1] == 0x20 or data[name - 1] == 0x22 or data[name - 1] == 0x27)
    ):
        name -= 1
    secret = False
    for row in range(len(names)):
        length = 0
        while names[row, length]:
            where = name - 1 - length
            if where < begin or (data[where] | np.uint8(0x20)) != names[row, length]:
                break
            length += 1
        secret |= names[row, length] == 0
    if not secret:
        return at, 0
    first = at + 1
    while (
        first < end
        and first - at < 6
        and (
            data[first] == 0x20
            or data[first] == 0x22
            or data[first] == 0x27
            or data[first] == 0x3D
            or data[first] == 0x3E
        )
    ):
        first += 1
    last = first
    while last < end and last - first < _TOKEN_MOST and classes[data[last]] & _VALUE:
        last += 1
    if last - first < _TOKEN_FEWEST:
        return at, 0
    while last < end and last - first < _TOKEN_MOST and data[last] == 0x3D:  # what fills up base 64
        last += 1
    return first, last


@numba.njit(cache=True, nogil=True)
def _ipv4(data: Array, at: int, end: int, classes: Array) -> int:
    """The byte after four numbers under 256 with dots between, no zero before a digit; 0 if they are not here."""
    for part in range(4):
        value = np.int64(0)
        digits = 0
        start = at
        while at < end and digits < 4 and classes[data[at]] & _DIGIT:
            value = 10 * value + np.int64(data[at]) - 48
            digits += 1
            at += 1
        if not 1 <= digits <= 3 or value > 255 or (digits > 1 and data[start] == 0x30):
            return 0
        if part < 3:
            if at >= end or data[at] != 0x2E:
                return 0
            at += 1
    if at < end:
        after = data[at]
        if classes[after] & (_LETTER | _DIGIT) or after == 0x5F:
            return 0
        beyond = classes[data[at + 1]] if at + 1 < end else 0
        if (after == 0x2E and beyond & (_LETTER | _DIGIT)) or (after == 0x2D and beyond & _LETTER):
            return 0
    return at


@numba.njit(cache=True, nogil=True)
def _ipv6(data: Array, at: int, end: int, classes: Array) -> int:
    """The byte after hexadecimal groups that begin with 2xxx: or 3xxx:, the addresses in use; 0 if there are none."""
    if at + 6 > end or not (data[at] == 0x32 or data[at] == 0x33) or data[at + 4] != 0x3A:
        return 0
    colons = 0
    last = at
    while last < end and last - at < _IPV6_MOST and (classes[data[last]] & _HEX or data[last] == 0x3A):
        colons += data[last] == 0x3A
        last += 1
    if last < end and (classes[data[last]] & (_LETTER | _DIGIT) or data[last] == 0x5F):
        return 0
    while data[last - 1] == 0x3A and data[last - 2] != 0x3A:
        last -= 1
    return last if colons >= 3 else 0


@numba.njit(cache=True, nogil=True)
def _international(data: Array, at: int, end: int, classes: Array) -> int:
    """The byte after the last digit of +, digits, and single signs between them; 0 if there are too few or too many."""
    digits = 0
    last = 0
    gap = 0
    place = at + 1
    if place >= end or not 0x31 <= data[place] <= 0x39:
        return 0
    while place < end and place - at < _PHONE_MOST:
        byte = data[place]
        if classes[byte] & _DIGIT:
            digits += 1
            gap = 0
            last = place + 1
        elif byte == 0x20 or byte == 0x2D or byte == 0x2E or byte == 0x28 or byte == 0x29 or byte == 0x2F:
            gap += 1
            if gap > 2:
                break
        else:
            break
        place += 1
    if last < end and last and (classes[data[last]] & (_LETTER | _DIGIT) or data[last] == 0x5F):
        return 0
    return last if digits >= 8 else 0


@numba.njit(cache=True, nogil=True)
def _north_american(data: Array, at: int, end: int, classes: Array) -> int:
    """The byte after (ddd) ddd-dddd, ddd-ddd-dddd or ddd.ddd.dddd, perhaps with a 1 before; 0 if it is not here."""
    place = at
    if (
        data[place] == 0x31
        and place + 1 < end
        and (data[place + 1] == 0x2D or data[place + 1] == 0x20 or data[place + 1] == 0x2E)
    ):
        place += 2
    brackets = place < end and data[place] == 0x28
    place += brackets
    if not _code(data, place, end, classes):
        return 0
    place += 3
    if brackets:
        if place >= end or data[place] != 0x29:
            return 0
        place += 1
        if place < end and data[place] == 0x20:
            place += 1
    elif place >= end or not (data[place] == 0x2D or data[place] == 0x2E):
        return 0
    sign = data[place] if place < end else np.uint8(0)
    if sign == 0x2D or sign == 0x2E:
        place += 1
    if not _code(data, place, end, classes):
        return 0
    place += 3
    if place >= end or not (data[place] == 0x2D or data[place] == 0x2E or (brackets and data[place] == 0x20)):
        return 0
    if not brackets and data[place] != sign:
        return 0
    place += 1
    for digit in range(4):
        if place + digit >= end or not classes[data[place + digit]] & _DIGIT:
            return 0
    place += 4
    if place < end:
        after = data[place]
        if classes[after] & (_LETTER | _DIGIT) or after == 0x5F:
            return 0
        if (after == 0x2E or after == 0x2D) and place + 1 < end and classes[data[place + 1]] & (_LETTER | _DIGIT):
            return 0
    return place


@numba.njit(cache=True, nogil=True, inline="always")
def _code(data: Array, at: int, end: int, classes: Array) -> bool:
    """Three digits, the first of them 2 … 9."""
    return (
        at + 2 < end
        and 0x32 <= data[at] <= 0x39
        and bool(classes[data[at + 1]] & _DIGIT)
        and bool(classes[data[at + 2]] & _DIGIT)
    )
