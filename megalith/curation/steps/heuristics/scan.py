"""One pass over the bytes of a text: its words, lines and paragraphs, and whatever needs no second look at them.

Words are what stands between white space; text of scripts without spaces is parted after one to four characters, two
on average, by what the characters are, so that a passage is parted alike wherever it stands. Lines stand between
newlines and are not blank; paragraphs stand between runs of two newlines and more. Each is kept as a hash of exactly
its bytes and its length in characters.
"""

from collections import namedtuple
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.curation.steps.heuristics.letters import (
    ALPHABETIC,
    MARK,
    PLAIN,
    SPACE,
    TERMINAL,
    UNSPACED,
    WATCHED,
)
from megalith.curation.steps.heuristics.marks import (
    ends_sentence,
    is_bullet,
    is_ellipsis,
    is_terminated,
    names_javascript,
    names_lorem_ipsum,
    names_policy,
    stop_word,
)
from megalith.ngrams.words import FNV_OFFSET, FNV_PRIME, MIX, decode, decode_before

Array = npt.NDArray[Any]

Counts = namedtuple(
    "Counts",
    (
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
    ),
)
"""The counts of `scan`, in the order of its result."""
AT = Counts(*range(len(Counts._fields)))
"""The place of each in it."""

SHORT_LINE_CHARACTERS = 30  # FineWeb
FEWEST_LINE_WORDS = 3  # C4
LONGEST_WORD_CHARACTERS = 1000  # C4's code
MOST_UNSPACED_LETTERS = 4


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
    """Count what `Counts` names in data[first:last], and list words, lines and paragraphs as (hashes, lengths)."""
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
    state = FNV_OFFSET
    seen = 0  # all bits of the word's characters

    line_start, line_character, line_words = first, 0, 0
    line_state = FNV_OFFSET
    first_word, last_word_end, last_kind = 0, 0, 0
    unspaced, last_code, letters = False, np.uint32(0), 0  # of the last character that is no mark
    sentences, open_sentence = 0, False
    javascript, policy, long_word = False, False, False

    paragraph_start, paragraph_character = first, 0
    paragraph_state = FNV_OFFSET

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

        parts = False  # whether a word ends here without a space
        if code >= 0x80 or unspaced:
            if inside and kind & (MARK | SPACE) == 0:
                if unspaced and kind & UNSPACED:
                    parts = letters == MOST_UNSPACED_LETTERS or parted(last_code, code)
                elif unspaced or kind & UNSPACED:
                    parts = kind & seen & PLAIN != 0  # an opening bracket stays with what follows
            if not parts and kind & MARK == 0:
                unspaced = kind & UNSPACED != 0
                if unspaced:
                    last_code = code
                    letters += 1
        if kind & SPACE == 0 and not parts:
            if newline_run:
                if newline_run > 1:
                    paragraph_start, paragraph_character = at, characters
                    paragraph_state = FNV_OFFSET
                newline_run = 0
            if not inside:
                inside = True
                word_start, word_character = at, characters
                state = FNV_OFFSET
                seen = 0
            state = (state ^ np.uint64(code)) * FNV_PRIME
            seen |= kind
            last_kind = kind
            if kind & WATCHED:
                if code == 46:  # .
                    dots = dots + 1 if dot_at == at - 1 else 1
                    dot_at = at
                    if dots == 3:
                        counts[AT.ellipses] += 1
                        dots = 0
                elif code == 35:  # #
                    counts[AT.hashes] += 1
                elif code == 123:  # {
                    counts[AT.curly_brackets] += 1
                else:
                    letter = code | np.uint32(32)
                    if letter == 106:  # j
                        javascript |= names_javascript(data, at, last)
                    elif letter == 112:  # p
                        counts[AT.lorem_ipsum] += names_lorem_ipsum(data, at, first, last)
                    else:
                        policy |= names_policy(data, at, first, last, letter)
            elif code == 0x2026:  # …
                counts[AT.ellipses] += 1
            characters += 1
            at += width
            continue

        if inside:
            inside = False
            letters = 0
            length = characters - word_character
            state = (state ^ (state >> np.uint64(33))) * MIX
            state ^= state >> np.uint64(29)
            word = counts[AT.words]
            word_hashes[word] = state
            word_lengths[word] = length
            counts[AT.words] += 1
            line_state = (line_state ^ (state + np.uint64(word_start - line_start))) * MIX
            line_state ^= line_state >> np.uint64(32)
            paragraph_state = (paragraph_state ^ (state + np.uint64(word_start - paragraph_start))) * MIX
            paragraph_state ^= paragraph_state >> np.uint64(32)
            if seen & PLAIN:
                counts[AT.plain_characters] += length
                counts[AT.alphabetic_words] += (seen & ALPHABETIC) != 0
                open_sentence = True
            else:
                counts[AT.symbol_words] += 1
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
        if parts:
            continue

        if code != 10:
            if newline_run:
                if newline_run > 1:
                    paragraph_start, paragraph_character = at, characters
                    paragraph_state = FNV_OFFSET
                newline_run = 0
            if code != 32:  # of plain spaces it is enough to know where the words are
                odd = np.uint64(code) << np.uint64(32)
                line_state = (line_state ^ (odd + np.uint64(at - line_start))) * MIX
                paragraph_state = (paragraph_state ^ (odd + np.uint64(at - paragraph_start))) * MIX
            characters += 1
            at += width
            continue

        if line_words:
            line = counts[AT.lines]
            line_hashes[line] = (line_state ^ np.uint64(at - line_start)) * MIX
            length = characters - line_character
            line_lengths[line] = length
            counts[AT.lines] += 1
            counts[AT.short_lines] += length <= SHORT_LINE_CHARACTERS
            counts[AT.punctuated_lines] += last_word_end == at and last_kind & TERMINAL != 0
            counts[AT.bullet_lines] += is_bullet(data, first_word, last)
            counts[AT.ellipsis_lines] += is_ellipsis(data, first_word, last_word_end)
            counts[AT.lines_of_few_words] += line_words < FEWEST_LINE_WORDS
            terminated = is_terminated(data, first_word, last_word_end, kinds)
            counts[AT.unterminated_lines] += not terminated
            counts[AT.javascript_lines] += javascript
            counts[AT.policy_lines] += policy
            if line_words >= FEWEST_LINE_WORDS and not (javascript or policy or long_word):
                counts[AT.sentences] += sentences + open_sentence
                if terminated:
                    counts[AT.terminated_sentences] += sentences + open_sentence
        newline_run += 1
        if newline_run == 1:
            if at == last or (at + 1 < last and data[at + 1] == 10):
                paragraph = counts[AT.paragraphs]
                paragraph_hashes[paragraph] = (paragraph_state ^ np.uint64(at - paragraph_start)) * MIX
                paragraph_lengths[paragraph] = characters - paragraph_character
                counts[AT.paragraphs] += 1
            else:
                paragraph_state = (paragraph_state ^ np.uint64(at - paragraph_start)) * MIX
        line_words = 0
        line_state = FNV_OFFSET
        sentences, open_sentence = 0, False
        javascript, policy, long_word = False, False, False
        if at < last:
            counts[AT.newlines] += 1
            characters += 1
        at += 1
        line_start, line_character = at, characters
    counts[AT.characters] = characters
    for word in range(8):
        counts[AT.stop_words] += stop_words >> word & 1


@numba.njit(cache=True, nogil=True)
def parted(before: np.uint32, code: np.uint32) -> bool:
    """Whether text is parted between these two letters of a script without spaces: half of all pairs are."""
    mixed = (np.uint64(before) << np.uint64(32) | np.uint64(code)) * MIX
    return bool(mixed >> np.uint64(63))


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
        code, start = decode_before(data, last)
        if kinds[code] & SPACE == 0:
            break
        last = start
    return first, last
