"""Shards, read back by a reader written from the description of Megatron's format alone."""

import struct
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import InputError
from megalith.tokens import Shards, write_shards

DOCUMENTS = [[5, 6, 7, 0], [0], [65535, 1, 0], [2] * 10 + [0]]


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


@pytest.mark.parametrize(("vocab_size", "letter"), [(65536, "H"), (65537, "i")])
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


def test_a_document_number_out_of_range_is_an_index_error(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "train", DOCUMENTS, 65536)
    for number in (-1, 4):
        with pytest.raises(IndexError):
            shards.document(number)


def test_an_index_is_not_written_when_the_documents_break_off(tmp_path: Path) -> None:
    def broken() -> list[list[int]]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shards(tmp_path / "train", (broken() for _ in range(1)), 65536)
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
    write_shards(tmp_path / "train", DOCUMENTS, 65536)
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
    write_shards(tmp_path / "train", DOCUMENTS, 65536)
    (tmp_path / f"train{suffix}").unlink()
    with pytest.raises(InputError) as caught:
        Shards(tmp_path / "train")
    assert caught.value.where == str(tmp_path / f"train{suffix}")


def test_no_documents_make_empty_shards(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "train", [], 65536)
    assert (shards.documents, shards.tokens) == (0, 0)
    assert shards.stream.dtype == np.uint16
