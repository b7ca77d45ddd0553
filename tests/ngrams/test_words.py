import re
from collections import defaultdict

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from megalith.ngrams.words import ngrams, words


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs",))), max_size=4))
@example(["語，語 𝒜𝒷。é—ß", "", "a"])
def test_words_and_their_places_are_those_of_the_regular_expression(texts: list[str]) -> None:
    found = words(pa.array(texts, pa.large_string()))
    for document, text in enumerate(texts):
        data = text.encode()
        first, last = found.bounds[document], found.bounds[document + 1]
        spelled = [
            data[start:end].decode()
            for start, end in zip(found.starts[first:last], found.ends[first:last], strict=True)
        ]
        assert spelled == re.findall(r"\w+", text)


def test_equal_words_have_equal_hashes_and_others_have_not() -> None:
    spellings = ["Straße", "STRASSE", "straße", "ΟΔΟΣ", "οδος", "οδοσ", "İ", "i", "I", "a_1", "A_1", "b", "中文", "é"]
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
                {"b"},
                {"中文"},
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
