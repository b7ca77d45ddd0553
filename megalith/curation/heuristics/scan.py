"""One pass over the bytes of a text: its words, lines and paragraphs, and whatever needs no second look at them.

Words are what stands between white space. Lines stand between newlines and are not blank; paragraphs stand between
runs of two newlines and more. Each is kept as a hash of exactly its bytes and its length in characters.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.curation.heuristics.letters import ALPHABETIC, PLAIN, SPACE, TERMINAL, WATCHED, decode
from megalith.curation.heuristics.marks import (
    ends_sentence,
    is_bullet,
    is_ellipsis,
    is_terminated,
    names_javascript,
    names_lorem_ipsum,
    names_policy,
    stop_word,
)

Array = npt.NDArray[Any]

COUNTS = (
    "characters",
    "newlines",
    "words",
    "symbol_words",
    "alphabetic_words",
    "plain_characters",
    "stop_words",
    "hashes",
    "ellipses",
    "lines",
    "paragraphs",
    "bullet_lines",
    "ellipsis_lines",
    "sentences",
    "terminated_sentences",
    "lorem_ipsum",
    "curly_brackets",
    "javascript_lines",
    "policy_lines",
    "lines_of_few_words",
    "unterminated_lines",
    "punctuated_lines",
    "short_lines",
)
"""What `scan` counts, in the order of its result."""
(
    _CHARACTERS,
    _NEWLINES,
    _WORDS,
    _SYMBOL_WORDS,
    _ALPHABETIC_WORDS,
    _PLAIN_CHARACTERS,
    _STOP_WORDS,
    _HASHES,
    _ELLIPSES,
    _LINES,
    _PARAGRAPHS,
    _BULLET_LINES,
    _ELLIPSIS_LINES,
    _SENTENCES,
    _TERMINATED_SENTENCES,
    _LOREM_IPSUM,
    _CURLY_BRACKETS,
    _JAVASCRIPT_LINES,
    _POLICY_LINES,
    _LINES_OF_FEW_WORDS,
    _UNTERMINATED_LINES,
    _PUNCTUATED_LINES,
    _SHORT_LINES,
) = range(len(COUNTS))

SHORT_LINE_CHARACTERS = 30  # FineWeb
FEWEST_LINE_WORDS = 3  # C4
LONGEST_WORD_CHARACTERS = 1000  # C4's code
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_LOREM_I, _SUM = (np.frombuffer(part, np.uint8) for part in (b"lorem i", b"sum"))


@numba.njit(cache=True, nogil=True)
def scan(
    data: Array,
    first: int,
    last: int,
    kinds: Array,
    counts: Array,
    words: tuple[Array, Array],
    lines: tuple[Array, Array],
    paragraphs: tuple[Array, Array],
) -> None:
    """Count what `COUNTS` names in data[first:last], and list words, lines and paragraphs as (hashes, lengths)."""
    counts[:] = 0
    word_hashes, word_lengths = words
    line_hashes, line_lengths = lines
    paragraph_hashes, paragraph_lengths = paragraphs

    characters = 0
    dot_at, dots = -2, 0
    newline_run = 0
    stop_words = 0

    inside = False
    word_start, word_character = 0, 0
    state = _FNV_OFFSET
    seen = 0  # all bits of the word's characters

    line_start, line_character, line_words = first, 0, 0
    line_state = _FNV_OFFSET
    first_word, last_word_end, last_kind = 0, 0, 0
    sentences, open_sentence = 0, False
    javascript, policy, long_word = False, False, False

    paragraph_start, paragraph_character = first, 0
    paragraph_state = _FNV_OFFSET

    at = first
    while at <= last:
        if at < last:
            code = np.uint32(data[at])
            width = 1
            if code >= 0x80:
                code, width = decode(data, at, code)
            kind = kinds[code]
        else:  # a newline that is not there ends the last word, line and paragraph
            code, width, kind = np.uint32(10), 1, np.uint8(SPACE)

        if kind & SPACE == 0:
            if newline_run:
                if newline_run > 1:
                    paragraph_start, paragraph_character = at, characters
                    paragraph_state = _FNV_OFFSET
                newline_run = 0
            if not inside:
                inside = True
                word_start, word_character = at, characters
                state = _FNV_OFFSET
                seen = 0
            state = (state ^ np.uint64(code)) * _FNV_PRIME
            seen |= kind
            last_kind = kind
            if kind & WATCHED:
                if code == 46:  # .
                    dots = dots + 1 if dot_at == at - 1 else 1
                    dot_at = at
                    if dots == 3:
                        counts[_ELLIPSES] += 1
                        dots = 0
                elif code == 35:  # #
                    counts[_HASHES] += 1
                elif code == 123:  # {
                    counts[_CURLY_BRACKETS] += 1
                else:
                    letter = code | np.uint32(32)
                    if letter == 106:  # j
                        javascript |= names_javascript(data, at, last)
                    elif letter == 112:  # p
                        counts[_LOREM_IPSUM] += names_lorem_ipsum(data, at, first, last)
                    else:
                        policy |= names_policy(data, at, first, last, letter)
            elif code == 0x2026:  # …
                counts[_ELLIPSES] += 1
            characters += 1
            at += width
            continue

        if inside:
            inside = False
            length = characters - word_character
            state = (state ^ (state >> np.uint64(33))) * _MIX
            state ^= state >> np.uint64(29)
            word = counts[_WORDS]
            word_hashes[word] = state
            word_lengths[word] = length
            counts[_WORDS] += 1
            line_state = (line_state ^ (state + np.uint64(word_start - line_start))) * _MIX
            line_state ^= line_state >> np.uint64(32)
            paragraph_state = (paragraph_state ^ (state + np.uint64(word_start - paragraph_start))) * _MIX
            paragraph_state ^= paragraph_state >> np.uint64(32)
            if seen & PLAIN:
                counts[_PLAIN_CHARACTERS] += length
                counts[_ALPHABETIC_WORDS] += (seen & ALPHABETIC) != 0
                open_sentence = True
            else:
                counts[_SYMBOL_WORDS] += 1
            size = at - word_start
            if 2 <= size <= 4:
                stop_words |= stop_word(data, word_start, size)
            if open_sentence and seen & TERMINAL and ends_sentence(data, word_start, at, kinds):
                sentences += 1
                open_sentence = False
            long_word |= length > LONGEST_WORD_CHARACTERS
            if line_words == 0:
                first_word = word_start
            line_words += 1
            last_word_end = at

        if code != 10:
            if newline_run:
                if newline_run > 1:
                    paragraph_start, paragraph_character = at, characters
                    paragraph_state = _FNV_OFFSET
                newline_run = 0
            if code != 32:  # of plain spaces it is enough to know where the words are
                odd = np.uint64(code) << np.uint64(32)
                line_state = (line_state ^ (odd + np.uint64(at - line_start))) * _MIX
                paragraph_state = (paragraph_state ^ (odd + np.uint64(at - paragraph_start))) * _MIX
            characters += 1
            at += width
            continue

        if line_words:
            line = counts[_LINES]
            line_hashes[line] = (line_state ^ np.uint64(at - line_start)) * _MIX
            length = characters - line_character
            line_lengths[line] = length
            counts[_LINES] += 1
            counts[_SHORT_LINES] += length <= SHORT_LINE_CHARACTERS
            counts[_PUNCTUATED_LINES] += last_word_end == at and last_kind & TERMINAL != 0
            counts[_BULLET_LINES] += is_bullet(data, first_word, last)
            counts[_ELLIPSIS_LINES] += is_ellipsis(data, first_word, last_word_end)
            counts[_LINES_OF_FEW_WORDS] += line_words < FEWEST_LINE_WORDS
            terminated = is_terminated(data, first_word, last_word_end)
            counts[_UNTERMINATED_LINES] += not terminated
            counts[_JAVASCRIPT_LINES] += javascript
            counts[_POLICY_LINES] += policy
            if line_words >= FEWEST_LINE_WORDS and not (javascript or policy or long_word):
                counts[_SENTENCES] += sentences + open_sentence
                if terminated:
                    counts[_TERMINATED_SENTENCES] += sentences + open_sentence
        newline_run += 1
        if newline_run == 1:
            if at == last or (at + 1 < last and data[at + 1] == 10):
                paragraph = counts[_PARAGRAPHS]
                paragraph_hashes[paragraph] = (paragraph_state ^ np.uint64(at - paragraph_start)) * _MIX
                paragraph_lengths[paragraph] = characters - paragraph_character
                counts[_PARAGRAPHS] += 1
            else:
                paragraph_state = (paragraph_state ^ np.uint64(at - paragraph_start)) * _MIX
        line_words = 0
        line_state = _FNV_OFFSET
        sentences, open_sentence = 0, False
        javascript, policy, long_word = False, False, False
        if at < last:
            counts[_NEWLINES] += 1
            characters += 1
        at += 1
        line_start, line_character = at, characters
    counts[_CHARACTERS] = characters
    for word in range(8):
        counts[_STOP_WORDS] += stop_words >> word & 1


@numba.njit(cache=True, nogil=True)
def stripped(data: Array, first: int, last: int, kinds: Array) -> tuple[int, int]:
    """The text without the white space around it."""
    while first < last:
        code = np.uint32(data[first])
        width = 1
        if code >= 0x80:
            code, width = decode(data, first, code)
        if kinds[code] & SPACE == 0:
            break
        first += width
    while first < last:
        start = last - 1
        while data[start] & 0xC0 == 0x80:
            start -= 1
        code = np.uint32(data[start])
        if code >= 0x80:
            code, _ = decode(data, start, code)
        if kinds[code] & SPACE == 0:
            break
        last = start
    return first, last
