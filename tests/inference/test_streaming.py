"""Text comes as soon as it is certain, whole characters alone, and ends before a stop wherever tokens are cut."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from megalith.inference import LanguageModel
from megalith.inference.streaming import TextStream


class Bytes:
    """A tokenizer whose tokens are given strings of bytes."""

    def __init__(self, *tokens: bytes) -> None:
        self.token_bytes = tokens


def read(tokens: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """The pieces that come out of these tokens one by one, and whether a stop has ended the text."""
    stream, pieces = TextStream(Bytes(*tokens), stop), []
    for number in range(len(tokens)):
        piece, stopped = stream.push(number)
        pieces.append(piece)
        if stopped:
            return pieces, True
    piece, stopped = stream.finish()
    return [*pieces, piece], stopped


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def test_no_character_is_split() -> None:
    assert read([b"a\xe7", b"\x9f", b"\xb3\xf0\x9f", b"\x98\x80!"]) == (["a", "", "石", "😀!", ""], False)
    assert read([b"a\xe7", b"\x9f"]) == (["a", "", "\ufffd"], False)


@given(st.binary(max_size=30), st.lists(st.integers(0, 1000), max_size=30))
@example(b"\xf0\x9f\x98\xff\xe7\x9f\xb3\xe7", [1, 2, 3, 5, 6])
def test_pieces_join_to_the_whole_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    pieces, stopped = read(cut(data, cuts))
    assert ("".join(pieces), stopped) == (data.decode(errors="replace"), False)


def test_what_may_become_a_stop_is_held_back_and_no_more() -> None:
    pieces, stopped = read([b"x", b"E", b"N", b"E", b"N", b"D", b"y"], ("END",))
    assert (pieces, stopped) == (["x", "", "", "EN", "", ""], True)
    assert read([b"x", b"E", b"N"], ("END", "Ng"))[0] == ["x", "", "", "EN"]
    assert read([b"ab\n", b"\n", b"c"], ("\n\n",)) == (["ab", ""], True)


@given(
    st.text("abc", max_size=12),
    st.lists(st.integers(0, 100), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
@example("abc", [], ["abc", "b"])
def test_a_text_ends_at_the_stop_that_is_whole_first(text: str, cuts: list[int], stop: list[str]) -> None:
    ends = [(end, text.rindex(one, 0, end)) for end in range(len(text) + 1) for one in stop if text[:end].endswith(one)]
    expected = text[: min(ends)[1]] if ends else text
    pieces, stopped = read(cut(text.encode(), cuts), tuple(stop))
    assert ("".join(pieces), stopped) == (expected, bool(ends))


def test_a_tokenizers_own_tokens_come_out_as_their_text(lm: LanguageModel) -> None:
    text = "Naïve visitors ask: “How?” 石は重い。 😀\n\n"
    stream = TextStream(lm.tokenizer, ())
    pieces = [stream.push(token)[0] for token in lm.tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > 10


def test_text_of_tokens_without_bytes_comes_at_the_end(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lm.tokenizer.__dict__, "token_bytes", None)
    ids = lm.tokenizer.encode("The baker said")
    stream = TextStream(lm.tokenizer, ("xx",))
    assert {stream.push(token) for token in ids} == {("", False)}
    assert stream.finish() == ("The baker said", False)
    stream = TextStream(lm.tokenizer, ("said",))
    assert [stream.push(token) for token in ids][-1] == ("The baker ", True)
