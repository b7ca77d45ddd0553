import re
import unicodedata
from collections import defaultdict

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from megalith.ngrams.words import UNSPACED, ngrams, runs, words


def _segmented(text: str) -> list[str]:
    """The tailored rules of UAX #29, character by character."""
    found: list[str] = []
    joined = False  # whether the character before belongs to a word
    alone = False  # whether that word is a character of a script without spaces
    for sign in text:
        kind = unicodedata.category(sign)
        unspaced = any(first <= ord(sign) <= last for first, last in UNSPACED)
        if sign.isalnum() or sign == "_":
            one = unspaced and not sign.isdigit()
            if joined and not one and not alone:
                found[-1] += sign
            else:
                found.append(sign)
            joined, alone = True, one
        elif kind[0] == "M" or (kind == "Cf" and sign != "\u200b"):
            if joined:
                found[-1] += sign
        else:
            joined = False
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs",))), max_size=4))
@example(["語，語 𝒜𝒷。é—ß", "", "a"])
@example(
    ["ที่นี่มีแมว3ตัว นะ", "हिन्दी में क्\u200dषेत्र", "日本語のテキスト、ABC漢字。", "می\u200cخواهم", "\u0301a\u0301\u0301 b"]
)
def test_words_and_their_places_are_those_of_the_tailored_segmentation(texts: list[str]) -> None:
    found = words(pa.array(texts, pa.large_string()))
    for document, text in enumerate(texts):
        data = text.encode()
        first, last = found.bounds[document], found.bounds[document + 1]
        spelled = [
            data[start:end].decode()
            for start, end in zip(found.starts[first:last], found.ends[first:last], strict=True)
        ]
        assert spelled == _segmented(text)
        if text.isascii():
            assert spelled == re.findall(r"\w+", text)


def test_equal_words_have_equal_hashes_and_others_have_not() -> None:
    spellings = [
        "中",
        "文",
        "Straße",
        "STRASSE",
        "straße",
        "ΟΔΟΣ",
        "οδος",
        "οδοσ",
        "İ",
        "i",
        "I",
        "a_1",
        "A_1",
        "b",
        "é",
        "é1",
        "é１",
        "Ｂ",
    ]
    found = words(pa.array([" ".join(spellings)]))
    by_hash = defaultdict(set)
    for spelling, hashed in zip(spellings, found.hashes.tolist(), strict=True):
        by_hash[hashed].add(spelling)
    assert sorted(map(sorted, by_hash.values())) == sorted(
        map(
            sorted,
            [
                {"Straße", "straße"},
                {"STRASSE"},
                {"ΟΔΟΣ", "οδος", "οδοσ"},
                {"İ", "i", "I"},
                {"a_1", "A_1"},
                {"b", "Ｂ"},
                {"é1", "é１"},
                {"中"},
                {"文"},
                {"é"},
            ],
        )
    )


def test_a_slice_of_an_array_is_read_from_its_own_start() -> None:
    texts = pa.array(["one two", "three four five", "six"])
    whole, part = words(texts), words(texts.slice(1, 1))
    assert part.hashes.tolist() == whole.hashes[2:5].tolist()
    assert part.starts.tolist() == [0, 6, 11]


def test_ngrams_depend_on_every_word_and_its_place() -> None:
    hashes = words(pa.array(["a b c a b c b a"])).hashes
    rolled = ngrams(hashes, 3).tolist()
    assert rolled[0] == rolled[3]
    assert len(set(rolled)) == 5  # abc bca cab abc bcb cba
    assert len(ngrams(hashes, 9)) == 0


def test_two_characters_of_a_script_without_spaces_count_as_a_word() -> None:
    text = "一二三 word 四五六七"
    found = words(pa.array([text])).document(0)
    assert found.count == 4  # seven characters and a word: nine halves
    hashes, firsts, lasts = runs(found, 2)
    data = text.encode()
    spelled = [data[found.starts[first] : found.ends[last]].decode() for first, last in zip(firsts, lasts, strict=True)]
    assert spelled == ["一二三 word", "二三 word", "三 word 四", "word 四五", "四五六七"]
    assert len(set(hashes.tolist())) == 5
    alone = words(pa.array(["二三 word"])).document(0)
    assert runs(alone, 2)[0].tolist() == [hashes[1]]


def test_by_character_every_letter_is_a_unit() -> None:
    found = words(pa.array(["Ab, c"]), by_character=True)
    assert found.starts.tolist() == [0, 1, 4]
    assert found.hashes.tolist() == words(pa.array(["a b c"]), by_character=True).hashes.tolist()
