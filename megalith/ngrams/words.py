"""The words of a batch of documents, lower-cased, as 64-bit hashes with their true places in the text.

Words are those of Unicode's text segmentation (UAX #29), tailored in two ways: punctuation inside a word parts it, so
that in plain ASCII a word is `\\w+`; and in scripts that put no spaces between words (Han, kana, Thai, Lao, Khmer,
Burmese and their kin) each character, with the marks on it, is a unit of its own, and two of them count as one word.
Marks belong to the letter before them; format characters (joiners, soft hyphens) are passed over; full-width letters
are the same as others.

One pass over the UTF-8 bytes of an Arrow array feeds both the near-duplicate search and the decontamination. Words are
lower-cased letter by letter, so a place is always a place in the original text, also where `str.lower()` would change
its length (İ). The final sigma counts as a sigma.
"""

import functools
import unicodedata
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
MIX = np.uint64(0xFF51AFD7ED558CCD)
"""A constant of MurmurHash3's finaliser."""
NGRAM_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """The words of all documents of a batch, one after another."""

    hashes: Array
    """uint64, one a word."""
    starts: Array
    """Byte in the document at which each word starts."""
    ends: Array
    """Byte in the document after each word."""
    bounds: Array
    """Words of document d are bounds[d] … bounds[d + 1] − 1."""
    halves: Array
    """uint8: 1 for a character of a script without spaces, which is half a word, 0 for a word."""
    any_halves: bool
    """Whether one of them is."""

    def document(self, number: int) -> "Words":
        """The words of one document by themselves."""
        part = slice(int(self.bounds[number]), int(self.bounds[number + 1]))
        halves = self.halves[part]
        bounds = np.array([0, len(halves)], np.int64)
        return Words(
            self.hashes[part],
            self.starts[part],
            self.ends[part],
            bounds,
            halves,
            self.any_halves and bool(halves.any()),
        )

    @property
    def count(self) -> int:
        """How many words they are, halves added up and rounded down."""
        return (2 * len(self.halves) - int(self.halves.sum(dtype=np.int64))) // 2


def words(texts: pa.Array, *, by_character: bool = False) -> Words:
    """Find and hash the words of each text; `by_character` makes each letter of any script a unit of its own."""
    data, offsets = utf8(texts)
    room = int(offsets[-1] - offsets[0] + len(offsets)) // (1 if by_character else 2) + 1
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int32)
    ends = np.empty(room, np.int32)
    halves = np.empty(room, np.uint8)
    bounds = np.zeros(len(offsets), np.int64)
    held = _scan(data, offsets, _by_character() if by_character else _folded(), hashes, starts, ends, halves, bounds)
    count = int(bounds[-1])
    return Words(hashes[:count], starts[:count], ends[:count], bounds, halves[:count], held > 0)


def utf8(texts: pa.Array) -> tuple[Array, Array]:
    """The bytes of an Arrow string array without a copy, and where each text starts (one more than there are texts)."""
    texts = texts.cast(pa.large_string())
    _, places, data = texts.buffers()
    if len(texts) == 0 or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8), offsets


def runs(found: Words, size: int) -> tuple[Array, Array, Array]:
    """The n-grams of `size` words of one document: hashes, and the first and last unit of each.

    From each unit on, an n-gram takes as many units as make `size` words.
    """
    if not found.any_halves:
        rolled = ngrams(found.hashes, size)
        places = np.arange(len(rolled), dtype=np.int64)
        return rolled, places, places + size - 1
    room = len(found.hashes)
    rolled, lasts = np.empty(room, np.uint64), np.empty(room, np.int64)
    count = _runs(found.hashes, found.halves, size, rolled, lasts)
    return rolled[:count], np.arange(count, dtype=np.int64), lasts[:count]


@numba.njit(cache=True, nogil=True)
def powers(most: int) -> Array:
    """NGRAM_BASE to the power of 0 … most."""
    made = np.ones(most + 1, np.uint64)
    for place in range(most):
        made[place + 1] = made[place] * NGRAM_BASE
    return made


@numba.njit(cache=True, nogil=True)
def _runs(hashes: Array, halves: Array, size: int, rolled: Array, lasts: Array) -> int:
    lead = powers(2 * size)
    state = np.uint64(0)
    weight = 0
    end = 0
    for place in range(len(hashes)):
        while weight < 2 * size and end < len(hashes):
            state = state * NGRAM_BASE + hashes[end]
            weight += 2 - halves[end]
            end += 1
        if weight < 2 * size:
            return place
        rolled[place] = state
        lasts[place] = end - 1
        state -= hashes[place] * lead[end - place - 1]
        weight -= 2 - halves[place]
    return len(hashes)


def ngrams(hashes: Array, size: int) -> Array:
    """The hash of each run of `size` consecutive words; one shorter by size − 1 than `hashes`."""
    count = max(0, len(hashes) - size + 1)
    rolled = np.zeros(count, np.uint64)
    for place in range(size):
        rolled = rolled * NGRAM_BASE + hashes[place : place + count]
    return rolled


@numba.njit(cache=True, nogil=True)
def decode(data: Array, at: int, byte: np.uint32) -> tuple[np.uint32, int]:
    """The code point that begins with `byte`, which is no ASCII, and its width in bytes."""
    six, low = np.uint32(6), np.uint32(0x3F)
    if byte < 0xE0:
        return (byte & np.uint32(0x1F)) << six | (np.uint32(data[at + 1]) & low), 2
    if byte < 0xF0:
        high = (byte & np.uint32(0x0F)) << six | (np.uint32(data[at + 1]) & low)
        return high << six | (np.uint32(data[at + 2]) & low), 3
    high = (byte & np.uint32(0x07)) << six | (np.uint32(data[at + 1]) & low)
    high = high << six | (np.uint32(data[at + 2]) & low)
    return high << six | (np.uint32(data[at + 3]) & low), 4


@numba.njit(cache=True, nogil=True)
def decode_before(data: Array, end: int) -> tuple[np.uint32, int]:
    """The code point that ends at `end`, and where it begins."""
    at = end - 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    code = np.uint32(data[at])
    if code >= 0x80:
        code, _ = decode(data, at, code)
    return code, at


_HALF, _MARK, _FORMAT = np.uint32(1 << 24), np.uint32(1 << 25), np.uint32(1 << 26)
_LETTER = np.uint32((1 << 24) - 1)
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3031, 0x3035), (0x303B, 0x303C), (0x3041, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
    (0x11700, 0x1174F), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Code points of the scripts without spaces: Word_Break's ideographs, hiragana and katakana, and the scripts of
Line_Break=SA (Thai, Lao, Burmese, Khmer, Tai Le, New Tai Lue, Tai Tham, Tai Viet, Ahom)."""


@functools.cache
def unspaced() -> Array:
    """Whether each code point is a letter of a script without spaces, bool (0x110000,)."""
    table = np.zeros(0x110000, bool)
    for first, last in UNSPACED:
        for code in range(first, last + 1):
            letter = chr(code)
            table[code] = letter.isalnum() and not letter.isdigit()
    return table


@functools.cache
def _folded() -> Array:
    """For each code point its lower-cased form with what it is in the high bits, or 0 where it is no part of a word."""
    table = np.zeros(0x110000, np.uint32)
    for code in range(len(table)):
        letter = chr(code)
        if letter.isalnum() or letter == "_":
            table[code] = ord(_narrow(letter).lower()[0])
        elif code > 0x7F:
            kind = unicodedata.category(letter)
            if code == 0x034F or kind == "Cf":  # COMBINING GRAPHEME JOINER shows nothing
                table[code] = _FORMAT
            elif kind[0] == "M":
                table[code] = np.uint32(code) | _MARK
    table[0x200B] = 0  # ZERO WIDTH SPACE stands between words
    table[ord("ς")] = ord("σ")
    table[unspaced()] |= _HALF
    return table


@functools.cache
def _by_character() -> Array:
    """The table of `_folded` in which every letter is a unit."""
    table = _folded().copy()
    table[(table != 0) & (table <= _LETTER)] |= _HALF
    return table


def _narrow(letter: str) -> str:
    """Replace a full-width or half-width letter by the ordinary one."""
    kind, _, code = unicodedata.decomposition(letter).partition(" ")
    plain = chr(int(code, 16)) if kind in ("<wide>", "<narrow>") else letter
    return plain if plain.isalnum() else letter


@numba.njit(cache=True, nogil=True)
def _scan(
    data: Array,
    offsets: Array,
    folded: Array,
    hashes: Array,
    starts: Array,
    ends: Array,
    halves: Array,
    bounds: Array,
) -> int:
    """Fill the arrays. Returns how many units are half a word."""
    count = 0
    held = 0
    for document in range(len(offsets) - 1):
        first = offsets[document]
        last = offsets[document + 1]
        at = first
        inside = 0  # 1 in a word, 2 in a character that is one by itself
        state = FNV_OFFSET
        while at < last:
            code = np.uint32(data[at])
            width = 1
            if code >= 0x80:
                code, width = decode(data, at, code)
            letter = folded[code]
            if np.uint32(letter - np.uint32(1)) < _LETTER:  # not 0, and no bit above
                if inside != 1:
                    if inside == 2:
                        state = (state ^ (state >> np.uint64(33))) * MIX
                        hashes[count] = state ^ (state >> np.uint64(33))
                        ends[count] = at - first
                        count += 1
                    inside = 1
                    state = FNV_OFFSET
                    starts[count] = at - first
                    halves[count] = 0
                state = (state ^ np.uint64(letter)) * FNV_PRIME
            elif letter & _HALF:
                if inside:
                    state = (state ^ (state >> np.uint64(33))) * MIX
                    hashes[count] = state ^ (state >> np.uint64(33))
                    ends[count] = at - first
                    count += 1
                inside = 2
                starts[count] = at - first
                halves[count] = 1
                held += 1
                state = (FNV_OFFSET ^ np.uint64(letter & _LETTER)) * FNV_PRIME
            elif letter and inside:
                if letter & _MARK:
                    state = (state ^ np.uint64(letter & _LETTER)) * FNV_PRIME
            elif inside:
                inside = 0
                state = (state ^ (state >> np.uint64(33))) * MIX
                hashes[count] = state ^ (state >> np.uint64(33))
                ends[count] = at - first
                count += 1
            at += width
        if inside:
            state = (state ^ (state >> np.uint64(33))) * MIX
            hashes[count] = state ^ (state >> np.uint64(33))
            ends[count] = last - first
            count += 1
        bounds[document + 1] = count
    return held
