"""The `.idx` of a shard in Megatron-LM's format, memory-mapped: where each document begins, without reading the rest.

The file is little-endian and unpadded:

    9 bytes   MMIDIDX 00 00
    u64       version: 1
    u8        type of the ids: 8 = uint16, 4 = int32 (others: `DTYPES`)
    u64       S, number of sequences
    u64       D, length of the document index: number of documents + 1
    S × i32   tokens of each sequence
    S × i64   byte at which each sequence begins in the .bin
    D × i64   first sequence of each document, then S
    S × i8    mode of each sequence, in multimodal data sets alone, which are refused

The index of a trillion tokens may have 20 GB. So opening checks what it can in constant time: the header against the
size of the file, and the tables at both ends (an index of up to 8,192 sequences is checked whole). What lies between is
checked as it is used: a document that does not fit its neighbours is refused when it is read.
"""

import struct
from bisect import bisect_right
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError
from megalith.tokens.stream import map_file

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
_FLOATS = (6, 7)
_CHECKED_ROWS = 4096  # at each end of a table, when the index is opened


class Index:
    """The tables of one `.idx`."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises InputError when it is missing, of another format, cut short, or wrong at its ends."""
        self.path = path
        self.dtype, self._lengths, self._pointers, self._first_sequences = _map_tables(path)
        self.documents = max(0, len(self._first_sequences) - 1)
        """How many documents there are."""
        sequences = len(self._lengths)
        self.tokens = int(self._pointers[-1]) // self.dtype.itemsize + int(self._lengths[-1]) if sequences else 0
        """How many tokens the .bin must have."""
        for first, after in _ends(sequences):
            self._check_sequences(first, after)
        table = self._first_sequences
        whole = len(table) > 0 and table[0] == 0 and table[-1] == sequences
        if not whole or any(_falls(table[first:after]) for first, after in _ends(len(table))):
            refuse(path, f"its documents do not cover its {sequences} sequences in order")

    @property
    def lengths(self) -> NDArray[np.int32]:
        """The tokens of each sequence: a view of the file."""
        return self._lengths

    def document(self, number: int) -> tuple[int, int]:
        """The place of a document's first token, and the place after its last.

        Raises InputError where the index is damaged here.
        """
        start, end = self.begins(number), self.begins(number + 1)
        first, after = self._first_sequences[number : number + 2].tolist()
        if self._lengths[first:after].sum(dtype=np.int64) != end - start:
            refuse(self.path, f"the lengths of document {number} do not add up to the byte at which the next begins")
        return start, end

    def find(self, place: int) -> int:
        """The number of the document that holds the token at `place`, by halving: about 30 looks in 10⁹ documents."""
        return bisect_right(range(self.documents), place, key=self.begins) - 1

    def begins(self, number: int) -> int:
        """The place of a document's first token; of number `documents`, the end.

        Raises InputError where the index is damaged here.
        """
        sequence = self._first_sequences.item(number)
        if sequence == len(self._lengths):
            return self.tokens
        inside = 0 <= sequence < len(self._lengths)
        place, rest = divmod(self._pointers.item(sequence), self.dtype.itemsize) if inside else (-1, 0)
        if rest or not 0 <= place <= self.tokens:
            refuse(self.path, f"document {number} begins at no token of the .bin")
        return place

    def _check_sequences(self, first: int, after: int) -> None:
        """That the lengths of some sequences add up to the bytes at which they and the next one begin."""
        lengths = self._lengths[first:after]
        if (lengths < 0).any():
            refuse(self.path, f"sequence {first + int(np.argmax(lengths < 0))} has a negative length")
        begins = int(self._pointers[first]) if first else 0
        expected = begins + np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        found = self._pointers[first : after + 1]
        wrong = found != np.concatenate([[begins], expected])[: len(found)]
        if wrong.any():
            where = first + int(np.argmax(wrong))
            refuse(self.path, f"the lengths do not add up to the byte at which sequence {where} begins")


def refuse(path: Path, what: str) -> NoReturn:
    """Raise the InputError of damaged shards."""
    raise InputError(
        f"these token shards cannot be read: {what}.",
        where=str(path),
        mend="They are damaged or cut short: tokenize again.",
    )


def _map_tables(path: Path) -> tuple[np.dtype[Any], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """The type of the ids, and the three tables of an `.idx` as views of the file."""
    if not path.is_file():
        raise InputError(
            "there are no token shards here.",
            where=str(path),
            mend="Name them without .bin or .idx, and tokenize first.",
        )
    size = path.stat().st_size
    if size < HEADER.size:
        refuse(path, f"the file ends within its header ({size} of {HEADER.size} bytes)")
    raw = map_file(path)
    magic, version, code, sequences, document_index = HEADER.unpack(raw[: HEADER.size].tobytes())
    if magic != MAGIC:
        refuse(path, f"it begins with {magic!r} and not with {MAGIC!r}, so this is not a Megatron index")
    if version != VERSION:
        refuse(path, f"it is of version {version}, and version {VERSION} is wanted")
    if code in _FLOATS:
        refuse(path, f"type code {code} is of floating-point numbers, and token ids are whole ones")
    if code not in DTYPES:
        refuse(path, f"type code {code} is not one of whole numbers ({', '.join(map(str, DTYPES))})")
    expected = HEADER.size + 12 * sequences + 8 * document_index
    if sequences and size == expected + sequences:
        raise InputError(
            "this index has a mode for each sequence: it is of a multimodal data set, and only text is trained on.",
            where=str(path),
            mend="Write the text alone, without --multimodal.",
        )
    if size != expected:
        refuse(path, f"its header promises {sequences} sequences, {expected} bytes, and the file has {size}")
    lengths_end, pointers_end = HEADER.size + 4 * sequences, HEADER.size + 12 * sequences
    return (
        DTYPES[code],
        raw[HEADER.size : lengths_end].view("<i4"),
        raw[lengths_end:pointers_end].view("<i8"),
        raw[pointers_end:].view("<i8"),
    )


def _ends(rows: int) -> list[tuple[int, int]]:
    """The ranges of a table that are checked at once: all of a small one, both ends of a large one."""
    if rows <= 2 * _CHECKED_ROWS:
        return [(0, rows)] if rows else []
    return [(0, _CHECKED_ROWS), (rows - _CHECKED_ROWS, rows)]


def _falls(numbers: NDArray[np.int64]) -> bool:
    return bool((np.diff(numbers) < 0).any())
