"""Token shards in Megatron-LM's format, so that either system reads the other's.

`PREFIX.bin` holds the token ids of all documents, end to end. `PREFIX.idx` is little-endian and unpadded:

    9 bytes   MMIDIDX 00 00
    u64       version: 1
    u8        type of the ids: 8 = uint16, 4 = int32 (others: `_DTYPES`)
    u64       S, number of sequences
    u64       D, length of the document index: number of documents + 1
    S × i32   tokens of each sequence
    S × i64   byte at which each sequence begins in the .bin
    D × i64   first sequence of each document, then S

Here a document is one sequence. The reader also takes documents of several (Megatron, splitting sentences).
"""

import array
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}
_UINT16, _INT32 = 8, 4


class Shards:
    """The documents of one `.bin/.idx` pair, memory-mapped: opening reads the index alone."""

    def __init__(self, prefix: Path) -> None:
        """Open `prefix`.bin and `prefix`.idx.

        Raises InputError when either is missing, is of another format, or does not agree with the other.
        """
        bin_path, idx_path = shard_paths(prefix)
        self.dtype, lengths, pointers, self._first_sequences = _read_index(idx_path)
        self._starts: NDArray[np.int64] = np.zeros(len(lengths) + 1, dtype=np.int64)  # first token of each sequence
        np.cumsum(lengths, out=self._starts[1:])
        _check_index(idx_path, self.dtype, lengths, pointers, self._first_sequences, self._starts)
        self.stream: NDArray[Any] = _map(bin_path, self.dtype, int(self._starts[-1]))
        """All token ids, end to end: (tokens,)."""

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self._first_sequences) - 1

    @property
    def tokens(self) -> int:
        """How many tokens there are, `<|endoftext|>` included."""
        return len(self.stream)

    def document(self, number: int) -> NDArray[Any]:
        """The token ids of one document, counted from 0: a view of the file."""
        if not 0 <= number < self.documents:
            raise IndexError(f"document {number} of {self.documents}")
        first, after = self._first_sequences[number : number + 2]
        return self.stream[self._starts[first] : self._starts[after]]


class ShardWriter:
    """Writes documents one by one: the `.bin` as they come, the `.idx` when the block ends well."""

    def __init__(self, bin_path: Path, idx_path: Path, vocab_size: int) -> None:
        self._code = _UINT16 if vocab_size <= 1 << 16 else _INT32
        self._idx_path = idx_path
        self._lengths = array.array("i")
        self._bin = bin_path.open("wb")

    def add(self, ids: Sequence[int]) -> None:
        """Append one document. Its end-of-text token is the caller's to give."""
        self._bin.write(np.asarray(ids, dtype=_DTYPES[self._code]).tobytes())
        self._lengths.append(len(ids))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bin.close()
        if kind is None:
            self._write_index()

    def _write_index(self) -> None:
        lengths = np.frombuffer(self._lengths, dtype=np.int32).astype("<i4")
        ends = np.cumsum(lengths, dtype=np.int64) * _DTYPES[self._code].itemsize
        pointers = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        with self._idx_path.open("wb") as file:
            file.write(_HEADER.pack(MAGIC, VERSION, self._code, len(lengths), len(lengths) + 1))
            file.write(lengths.tobytes())
            file.write(pointers.astype("<i8").tobytes())
            file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def write_shards(prefix: Path, documents: Iterable[Sequence[int]], vocab_size: int) -> Shards:
    """Write `documents` to `prefix`.bin and `prefix`.idx, as uint16 where `vocab_size` allows it, and open them."""
    with ShardWriter(*shard_paths(prefix), vocab_size) as writer:
        for document in documents:
            writer.add(document)
    return Shards(prefix)


def shard_paths(prefix: Path) -> tuple[Path, Path]:
    """The `.bin` and the `.idx` of a prefix, which may itself have dots."""
    return prefix.with_name(f"{prefix.name}.bin"), prefix.with_name(f"{prefix.name}.idx")


def _read_index(
    path: Path,
) -> tuple[np.dtype[Any], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """The type of the ids, and the three tables of an `.idx` as views of the file."""
    if not path.is_file():
        raise InputError(
            "there are no token shards here.",
            where=str(path),
            mend="Name them without .bin or .idx, and tokenize first.",
        )
    size = path.stat().st_size
    if size < _HEADER.size:
        _refuse(path, f"the file ends within its header ({size} of {_HEADER.size} bytes)")
    raw = np.memmap(path, mode="r", dtype=np.uint8)
    magic, version, code, sequences, document_index = _HEADER.unpack(raw[: _HEADER.size].tobytes())
    if magic != MAGIC:
        _refuse(path, f"it begins with {magic!r} and not with {MAGIC!r}, so this is not a Megatron index")
    if version != VERSION:
        _refuse(path, f"it is of version {version}, and version {VERSION} is wanted")
    if code not in _DTYPES:
        _refuse(path, f"type code {code} is not one of whole numbers ({', '.join(map(str, _DTYPES))})")
    expected = _HEADER.size + 12 * sequences + 8 * document_index
    if size != expected:
        _refuse(path, f"its header promises {sequences} sequences, {expected} bytes, and the file has {size}")
    lengths_end, pointers_end = _HEADER.size + 4 * sequences, _HEADER.size + 12 * sequences
    return (
        _DTYPES[code],
        raw[_HEADER.size : lengths_end].view("<i4"),
        raw[lengths_end:pointers_end].view("<i8"),
        raw[pointers_end:].view("<i8"),
    )


def _check_index(
    path: Path,
    dtype: np.dtype[Any],
    lengths: NDArray[np.int32],
    pointers: NDArray[np.int64],
    first_sequences: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> None:
    """That the three tables tell one story."""
    if (lengths < 0).any():
        _refuse(path, f"sequence {int(np.argmax(lengths < 0))} has a negative length")
    wrong = pointers != starts[:-1] * dtype.itemsize
    if wrong.any():
        _refuse(path, f"the lengths do not add up to the byte at which sequence {int(np.argmax(wrong))} begins")
    whole = len(first_sequences) > 0 and first_sequences[0] == 0 and first_sequences[-1] == len(lengths)
    if not whole or (np.diff(first_sequences) < 0).any():
        _refuse(path, f"its documents do not cover its {len(lengths)} sequences in order")


def _map(path: Path, dtype: np.dtype[Any], tokens: int) -> NDArray[Any]:
    if not path.is_file():
        raise InputError("the index is here and its .bin is missing.", where=str(path), mend="Tokenize again.")
    size = path.stat().st_size
    if size != tokens * dtype.itemsize:
        _refuse(path, f"the index promises {tokens} tokens, {tokens * dtype.itemsize} bytes, and the file has {size}")
    if tokens == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.memmap(path, mode="r", dtype=dtype).view(np.ndarray)


def _refuse(path: Path, what: str) -> NoReturn:
    raise InputError(
        f"these token shards cannot be read: {what}.",
        where=str(path),
        mend="They are damaged or cut short: tokenize again.",
    )
