"""A flat stream of token ids: one memory-mapped file, or several that read as one.

Anything that has a length and gives slices is a stream: a NumPy array is one. Joining copies nothing.
"""

import errno
import itertools
import mmap
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError, ResourceError


class TokenStream(Protocol):
    """Token ids, end to end."""

    def __len__(self) -> int:
        """How many tokens there are."""

    def __getitem__(self, places: slice, /) -> NDArray[Any]:
        """The tokens of a slice (of step 1): a view where that is possible."""


class JoinedStream:
    """Several arrays that read as one."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._firsts = [0, *itertools.accumulate(map(len, self._parts))]  # where each part begins, and the end

    def __len__(self) -> int:
        """How many tokens there are."""
        return self._firsts[-1]

    def __getitem__(self, places: slice, /) -> NDArray[Any]:
        """The tokens of a slice: a view within one part, a copy across parts."""
        start, stop, step = places.indices(len(self))
        if step != 1:
            raise ValueError(f"a stream is read in order, not in steps of {step}")
        pieces = []
        number = bisect_right(self._firsts, start) - 1
        while start < stop:
            first, after = self._firsts[number : number + 2]
            pieces.append(self._parts[number][start - first : min(stop, after) - first])
            start, number = min(stop, after), number + 1
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file that is not empty, memory-mapped, for reads here and there.

    Without the advice the kernel reads up to some megabytes around each place that is looked at.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise ResourceError(
            "too many files are open to open this one as well.",
            where=str(path),
            mend="Raise the limit (`ulimit -n`), or write fewer and larger shards.",
        ) from error
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, dtype=np.uint8)


def will_read(tokens: NDArray[Any]) -> None:
    """Have the kernel fetch these mapped tokens at once, and no others: it would fetch them a page at a time.

    Of an array that is not mapped there is nothing to fetch.
    """
    base = tokens
    while isinstance(base.base, np.ndarray):
        base = base.base
    mapped = getattr(base.base, "obj", base.base)
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED") or not tokens.nbytes:
        return
    first = tokens.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    page = first // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, page, first + tokens.nbytes - page)


def read_ring(stream: TokenStream, start: int, length: int) -> NDArray[Any]:
    """`length` tokens from place `start`, where the first token follows the last: a view when it need not wrap."""
    start %= len(stream)
    tokens = stream[start : start + length]
    while len(tokens) < length:
        tokens = np.concatenate([tokens, stream[: length - len(tokens)]])
    return tokens


def want_tokens(stream: TokenStream, split: str) -> None:
    """Raise InputError where there is nothing to predict."""
    if len(stream) < 2:
        count = "no token" if len(stream) == 0 else "a single token"
        raise InputError(
            f"the {split} split holds {count}: there is nothing to predict.",
            where=split,
            mend="Use more sources, or change curate.validation_share.",
        )
