"""Shards, read back by a reader written from the description of Megatron's format alone."""

import struct
from collections.abc import Callable
from itertools import accumulate, chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import InputError
from megalith.tokens import Shards, write_shards
from megalith.tokens.stream import JoinedStream, read_ring

DOCUMENTS = [[5, 6, 7, 0], [0], [65498, 1, 0], [2] * 10 + [0]]


def read_by_the_book(prefix: Path) -> tuple[str, list[list[int]]]:
    """The format by the description of it, byte by byte: type of the ids, and documents."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    version, code, sequences, document_index = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    letter, size = {4: ("i", 4), 8: ("H", 2)}[code]
    place = 34
    lengths = struct.unpack_from(f"<{sequences}i", index, place)
    pointers = struct.unpack_from(f"<{sequences}q", index, place := place + 4 * sequences)
    bounds = struct.unpack_from(f"<{document_index}q", index, place := place + 8 * sequences)
    assert len(index) == place + 8 * document_index
    tokens = prefix.with_suffix(".bin").read_bytes()
    assert len(tokens) == size * sum(lengths)
    read = [list(struct.unpack_from(f"<{n}{letter}", tokens, at)) for n, at in zip(lengths, pointers, strict=True)]
    return letter, [list(chain(*read[first:after])) for first, after in pairwise(bounds)]


@pytest.mark.parametrize(("vocab_size", "letter"), [(65499, "H"), (65500, "i")])
def test_an_independent_reader_finds_the_documents(tmp_path: Path, vocab_size: int, letter: str) -> None:
    shards = write_shards(tmp_path / "train", DOCUMENTS, vocab_size)
    assert read_by_the_book(tmp_path / "train") == (letter, DOCUMENTS)
    assert (shards.documents, shards.tokens) == (4, 19)
    assert [shards.document(number).tolist() for number in range(4)] == DOCUMENTS
    assert shards.stream.tolist() == list(chain(*DOCUMENTS))


@settings(max_examples=50, deadline=None)
@given(documents=st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20), max_size=10))
def test_any_documents_come_back(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]) -> None:
    prefix = tmp_path_factory.mktemp("shards") / "any"
    shards = write_shards(prefix, documents, 2**31)
    assert read_by_the_book(prefix)[1] == documents
    assert [shards.document(number).tolist() for number in range(shards.documents)] == documents


def test_a_document_of_several_sequences_is_read_as_one(tmp_path: Path) -> None:
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 3, 3)
    index += struct.pack("<3i", 2, 1, 2) + struct.pack("<3q", 0, 4, 6) + struct.pack("<3q", 0, 2, 3)
    (tmp_path / "split.idx").write_bytes(index)
    (tmp_path / "split.bin").write_bytes(struct.pack("<5H", 1, 2, 3, 4, 5))
    shards = Shards(tmp_path / "split")
    assert [shards.document(number).tolist() for number in range(shards.documents)] == [[1, 2, 3], [4, 5]]
    assert [shards.find(place) for place in range(5)] == [(0, 3)] * 3 + [(3, 5)] * 2


def test_a_document_number_out_of_range_is_an_index_error(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "train", DOCUMENTS, 65499)
    for number in (-1, 4):
        with pytest.raises(IndexError):
            shards.document(number)


def test_an_index_is_not_written_when_the_documents_break_off(tmp_path: Path) -> None:
    def broken() -> list[list[int]]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shards(tmp_path / "train", (broken() for _ in range(1)), 65499)
    assert not (tmp_path / "train.idx").exists()


def _patch(at: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda old: old[:at] + new + old[at + len(new) :]


@pytest.mark.parametrize(
    ("suffix", "damage", "complaint"),
    [
        (".bin", lambda old: old[:-2], "19 tokens, 38 bytes, and the file has 36"),
        (".bin", lambda old: old + b"\0\0", "the file has 40"),
        (".bin", lambda old: b"", "the file has 0"),
        (".idx", lambda old: old[:-8], "promises 4 sequences, 122 bytes, and the file has 114"),
        (".idx", lambda old: old[:20], "ends within its header"),
        (".idx", lambda old: b"", "ends within its header"),
        (".idx", _patch(0, b"TNTIDX\0\0\0"), "not a Megatron index"),
        (".idx", _patch(9, struct.pack("<Q", 2)), "version 2"),
        (".idx", _patch(17, b"\x06"), "type code 6"),
        (".idx", _patch(17, b"\x04"), "lengths do not add up to the byte at which sequence 1 begins"),
        (".idx", _patch(18, struct.pack("<Q", 2**60)), "promises"),
        (".idx", _patch(34, struct.pack("<i", 5)), "lengths do not add up to the byte at which sequence 1 begins"),
        (".idx", _patch(34, struct.pack("<i", -4)), "sequence 0 has a negative length"),
        (".idx", _patch(34 + 12, struct.pack("<i", 10)), "index promises 18 tokens"),
        (".idx", _patch(50 + 16, struct.pack("<q", 8)), "sequence 2 begins"),
        (".idx", _patch(82, struct.pack("<q", 1)), "do not cover"),
        (".idx", _patch(82 + 32, struct.pack("<q", 3)), "do not cover"),
        (".idx", _patch(82 + 8, struct.pack("<q", 3)), "do not cover"),
    ],
)
def test_damaged_shards_are_refused_with_what_where_and_the_mend(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    write_shards(tmp_path / "train", DOCUMENTS, 65499)
    file = tmp_path / f"train{suffix}"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError) as caught:
        Shards(tmp_path / "train")
    assert complaint in caught.value.what
    blamed = ".bin" if "index promises" in complaint or suffix == ".bin" else ".idx"
    assert caught.value.where == str(tmp_path / f"train{blamed}")
    assert caught.value.mend is not None


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_half_a_pair_is_refused(tmp_path: Path, suffix: str) -> None:
    write_shards(tmp_path / "train", DOCUMENTS, 65499)
    (tmp_path / f"train{suffix}").unlink()
    with pytest.raises(InputError) as caught:
        Shards(tmp_path / "train")
    assert caught.value.where == str(tmp_path / f"train{suffix}")


def test_no_documents_make_empty_shards(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "train", [], 65499)
    assert (shards.documents, shards.tokens) == (0, 0)
    assert shards.stream.dtype == np.uint16


some_documents = st.lists(st.lists(st.integers(0, 60_000), max_size=6), max_size=8)


@settings(max_examples=60, deadline=None)
@given(sets=st.lists(some_documents, min_size=1, max_size=4))
def test_several_pairs_read_as_the_one_that_holds_all_their_documents(
    tmp_path_factory: pytest.TempPathFactory, sets: list[list[list[int]]]
) -> None:
    directory = tmp_path_factory.mktemp("pairs")
    prefixes = [directory / f"part.{number}" for number in range(len(sets))]
    for number, (prefix, documents) in enumerate(zip(prefixes, sets, strict=True)):
        write_shards(prefix, documents, 65499 if number % 2 else 2**31)  # of either type of id
    shards, everything = Shards(*prefixes), list(chain(*sets))
    assert (shards.documents, shards.tokens) == (len(everything), sum(map(len, everything)))
    assert [shards.document(number).tolist() for number in range(shards.documents)] == everything
    assert shards.stream[:].tolist() == list(chain(*everything))
    bounds = [0, *accumulate(map(len, everything))]
    holders = [(first, end) for first, end in pairwise(bounds) for _ in range(first, end)]
    assert [shards.find(place) for place in range(shards.tokens)] == holders


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), max_size=5),
    start=st.integers(-30, 30) | st.none(),
    stop=st.integers(-30, 30) | st.none(),
)
def test_a_slice_of_a_joined_stream_is_the_slice_of_the_whole(
    lengths: list[int], start: int | None, stop: int | None
) -> None:
    whole = np.arange(sum(lengths))
    stream = JoinedStream(np.split(whole, np.cumsum(lengths)[:-1]) if lengths else [])
    assert len(stream) == len(whole)
    assert stream[start:stop].tolist() == whole[start:stop].tolist()
    if len(whole) and start is not None and stop is not None and stop > 0:
        around = read_ring(stream, start, stop)
        assert around.tolist() == [(start + place) % len(whole) for place in range(stop)]
    with pytest.raises(ValueError, match="steps of 2"):
        stream[::2]


def test_a_slice_within_one_part_copies_nothing() -> None:
    parts = [np.arange(10), np.arange(10, 20)]
    assert np.shares_memory(JoinedStream(parts)[12:17], parts[1])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """20,000 documents of 5 tokens: more than opening reads."""
    write_shards(tmp_path / "large", [[1, 2, 3, 4, 0]] * 20_000, 65499)
    return tmp_path / "large.idx"


LENGTHS, POINTERS, DOCUMENTS_TABLE = 34, 34 + 4 * 20_000, 34 + 12 * 20_000


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_patch(LENGTHS + 4 * 10_000, struct.pack("<i", 4)), "lengths of document 10000 do not add up"),
        (_patch(POINTERS + 8 * 10_000, struct.pack("<q", 100_002)), "lengths of document 10000 do not add up"),
        (_patch(POINTERS + 8 * 10_000, struct.pack("<q", 100_001)), "document 10000 begins at no token"),
        (_patch(POINTERS + 8 * 10_000, struct.pack("<q", -10)), "document 10000 begins at no token"),
        (_patch(POINTERS + 8 * 10_000, struct.pack("<q", 2**60)), "document 10000 begins at no token"),
        (_patch(DOCUMENTS_TABLE + 8 * 10_000, struct.pack("<q", 2**60)), "document 10000 begins at no token"),
        (_patch(DOCUMENTS_TABLE + 8 * 10_000, struct.pack("<q", -1)), "document 10000 begins at no token"),
        (_patch(DOCUMENTS_TABLE + 8 * 10_001, struct.pack("<q", 0)), "lengths of document 10000 do not add up"),
    ],
)
def test_damage_in_the_middle_of_a_large_index_is_refused_where_it_is_read(
    large: Path, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    large.write_bytes(damage(large.read_bytes()))
    shards = Shards(large.with_suffix(""))
    assert shards.document(9_000).tolist() == [1, 2, 3, 4, 0]
    with pytest.raises(InputError) as caught:
        shards.document(10_000)
    assert complaint in caught.value.what
    assert caught.value.where == str(large)


@pytest.mark.parametrize("sequence", [2, 4000, 17_000, 19_999])
def test_damage_at_either_end_of_a_large_index_is_refused_at_once(large: Path, sequence: int) -> None:
    for table, size in ((POINTERS, "<q"), (LENGTHS, "<i"), (DOCUMENTS_TABLE, "<q")):
        whole = large.read_bytes()
        large.write_bytes(_patch(table + struct.calcsize(size) * sequence, struct.pack(size, 0))(whole))
        with pytest.raises(InputError):
            Shards(large.with_suffix(""))
        large.write_bytes(whole)
