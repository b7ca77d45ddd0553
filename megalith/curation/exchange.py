"""Records that tasks hand to other tasks through files: each writer leaves one, sorted by who reads what of it.

A reader takes its part of every writer's file, so that neither ever holds more than its share. Nothing here outlives a
run: files are whole or absent, but not forced onto the disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.ngrams.words import MIX

Array = npt.NDArray[Any]

MOST_RECORDS = 1 << 21
"""Held at a time by a reader, where there may be more for it than its share."""
_BOUND = np.dtype("<i8")
SUFFIX = ".dealt"


def deal(path: Path, records: Array, to: Array, readers: int) -> None:
    """Write records of which each is for the reader `to` (records,), of so many; their order is kept for each."""
    order, bounds = _by_reader(to.astype(np.int64), readers)
    with unsynced(path.with_suffix(SUFFIX)) as temporary, temporary.open("wb") as file:
        bounds.astype(_BOUND).tofile(file)
        records[order].tofile(file)


def dealt(folder: Path, reader: int, readers: int, kind: np.dtype[Any]) -> Iterator[tuple[int, Array]]:
    """Records for a reader: the number that each writer's file begins with, in their order, and what it has."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            first, last = np.frombuffer(os.pread(descriptor, 2 * _BOUND.itemsize, reader * _BOUND.itemsize), _BOUND)
            if last > first:
                start = (readers + 1) * _BOUND.itemsize + int(first) * kind.itemsize
                yield (
                    int(path.name[:5]),
                    np.frombuffer(_all(descriptor, int(last - first) * kind.itemsize, start), kind),
                )
        finally:
            os.close(descriptor)


def in_windows(parts: Iterator[Array], kind: np.dtype[Any]) -> Iterator[Array]:
    """The parts one after another, put together to some MOST_RECORDS each; one empty one where there is none."""
    held: list[Array] = []
    count, yielded = 0, False
    for part in parts:
        held.append(part)
        count += len(part)
        if count >= MOST_RECORDS:
            yield np.concatenate(held)
            held, count, yielded = [], 0, True
    if held or not yielded:
        yield np.concatenate([np.zeros(0, kind), *held])


def reader_of(keys: Array, readers: int) -> Array:
    """Which of so many readers each key of 64 evenly spread bits is for, ascending with the keys."""
    return ((keys >> np.uint64(32)) * np.uint64(readers)) >> np.uint64(32)


def spread_out(numbers: Array) -> Array:
    """Numbers as keys of 64 evenly spread bits."""
    mixed = numbers.astype(np.uint64) * MIX
    return (mixed ^ (mixed >> np.uint64(29))) * MIX


@contextmanager
def unsynced(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, whoever else may be writing the same."""
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _all(descriptor: int, size: int, start: int) -> bytes | bytearray:
    found = os.pread(descriptor, size, start)
    if len(found) == size:
        return found
    whole = bytearray(found)  # one call reads at most 2 GiB
    while len(whole) < size and (more := os.pread(descriptor, size - len(whole), start + len(whole))):
        whole += more
    return whole


@numba.njit(cache=True, nogil=True)
def _by_reader(to: Array, readers: int) -> tuple[Array, Array]:
    """The places of records by reader, and where each reader's begin and end: a counting sort, which keeps order."""
    bounds = np.zeros(readers + 1, np.int64)
    for one in to:
        bounds[one + 1] += 1
    for reader in range(readers):
        bounds[reader + 1] += bounds[reader]
    free = bounds[:-1].copy()
    order = np.empty(len(to), np.int64)
    for place in range(len(to)):
        order[free[to[place]]] = place
        free[to[place]] += 1
    return order, bounds
