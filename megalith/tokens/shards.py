"""Token shards in Megatron-LM's format, so that either system reads the other's.

`PREFIX.bin` holds the token ids of all documents, end to end; `PREFIX.idx` says where each begins (`index.py` has its
layout). Here a document is one sequence. The reader also takes documents of several (Megatron, splitting sentences),
and several pairs as one set.
"""

import array
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError
from megalith.tokens.index import DTYPES, HEADER, MAGIC, VERSION, Index, refuse
from megalith.tokens.stream import JoinedStream, TokenStream, map_file

_UINT16, _INT32 = 8, 4
_MOST_IN_UINT16 = 65499  # Megatron writes larger vocabularies as int32, a few ids before it must
_COPIED_BYTES = 1 << 20


@dataclass(frozen=True)
class Slice:
    """The documents `first` … `after` − 1 of a pair."""

    prefix: Path
    first: int
    after: int


class Shards:
    """The documents of `.bin/.idx` pairs, memory-mapped: opening takes the same time whatever their size."""

    def __init__(self, *parts: Path | Slice) -> None:
        """Open PREFIX.bin and PREFIX.idx of each prefix, or a slice of their documents, as one set in this order.

        Raises InputError when a file is missing, is of another format, or does not agree with the other. Of a large
        index only both ends are read here; the rest is checked as it is used (see `index.py`).
        """
        self._parts = [_Opened.of(part) for part in parts]
        arrays = [part.tokens for part in self._parts]
        self.stream: TokenStream = arrays[0] if len(arrays) == 1 else JoinedStream(arrays)
        """All token ids, end to end; a NumPy array (tokens,) when there is one pair."""
        self._first_documents = [0, *accumulate(part.documents for part in self._parts)]
        self._first_tokens = [0, *accumulate(map(len, arrays))]

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self._first_documents[-1]

    @property
    def tokens(self) -> int:
        """How many tokens there are, `<|endoftext|>` included."""
        return len(self.stream)

    def document(self, number: int) -> NDArray[Any]:
        """The token ids of one document, counted from 0: a view of the file.

        Raises IndexError when there is none, InputError when the index is damaged here.
        """
        if not 0 <= number < self.documents:
            raise IndexError(f"document {number} of {self.documents}")
        place = bisect_right(self._first_documents, number) - 1
        start, end = self._parts[place].document(number - self._first_documents[place])
        first = self._first_tokens[place]
        return self.stream[first + start : first + end]

    def find(self, place: int) -> tuple[int, int]:
        """Where the document that holds the token at `place` of the stream begins and where it ends.

        Raises InputError where the index is damaged here.
        """
        number = bisect_right(self._first_tokens, place) - 1
        first = self._first_tokens[number]
        start, end = self._parts[number].find(place - first)
        return first + start, first + end


@dataclass(frozen=True)
class _Opened:
    """A slice of an open pair; documents and places count from its own first ones."""

    index: Index
    tokens: NDArray[Any]
    documents: int
    first_document: int
    first_token: int

    @classmethod
    def of(cls, part: Path | Slice) -> Self:
        bin_path, idx_path = shard_paths(part.prefix if isinstance(part, Slice) else part)
        index = Index(idx_path)
        tokens = _map(bin_path, index)
        if not isinstance(part, Slice):
            return cls(index, tokens, index.documents, 0, 0)
        if not 0 <= part.first <= part.after <= index.documents:
            refuse(idx_path, f"documents {part.first} to {part.after} are wanted, and it has {index.documents}")
        first, after = index.begins(part.first), index.begins(part.after)
        return cls(index, tokens[first:after], part.after - part.first, part.first, first)

    def document(self, number: int) -> tuple[int, int]:
        start, end = self.index.document(self.first_document + number)
        return start - self.first_token, end - self.first_token

    def find(self, place: int) -> tuple[int, int]:
        return self.document(self.index.find(self.first_token + place) - self.first_document)


class ShardWriter:
    """Writes documents one by one: the `.bin` as they come, the `.idx` when the block ends well."""

    def __init__(self, bin_path: Path, idx_path: Path, vocab_size: int) -> None:
        self._code = _UINT16 if vocab_size <= _MOST_IN_UINT16 else _INT32
        self._idx_path = idx_path
        self._lengths = array.array("i")
        self._bin = bin_path.open("wb")

    def add(self, ids: Sequence[int]) -> None:
        """Append one document. Its end-of-text token is the caller's to give."""
        self._bin.write(np.asarray(ids, dtype=DTYPES[self._code]).tobytes())
        self._lengths.append(len(ids))

    def add_batch(self, ids: NDArray[Any], lengths: NDArray[Any]) -> None:
        """Append documents of so many ids each, which stand end to end."""
        self._bin.write(ids.astype(DTYPES[self._code]).tobytes())
        self._lengths.frombytes(lengths.astype(np.int32).tobytes())

    def add_shards(self, prefix: Path) -> None:
        """Append all documents of a pair that was written for as large a vocabulary."""
        bin_path, idx_path = shard_paths(prefix)
        index = Index(idx_path)
        if index.dtype != DTYPES[self._code]:
            refuse(idx_path, f"its ids are of type {index.dtype}, and {DTYPES[self._code]} is being written")
        with bin_path.open("rb") as file:
            shutil.copyfileobj(file, self._bin, _COPIED_BYTES)
        self._lengths.frombytes(index.lengths.tobytes())

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
        ends = np.cumsum(lengths, dtype=np.int64) * DTYPES[self._code].itemsize
        pointers = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        with self._idx_path.open("wb") as file:
            file.write(HEADER.pack(MAGIC, VERSION, self._code, len(lengths), len(lengths) + 1))
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


def _map(path: Path, index: Index) -> NDArray[Any]:
    if not path.is_file():
        raise InputError("the index is here and its .bin is missing.", where=str(path), mend="Tokenize again.")
    size, expected = path.stat().st_size, index.tokens * index.dtype.itemsize
    if size != expected:
        refuse(path, f"the index promises {index.tokens} tokens, {expected} bytes, and the file has {size}")
    if index.tokens == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=index.dtype)
    return map_file(path).view(index.dtype)
