"""At most so many documents of a stream, chosen by the keyed hash of their text, with a passage of each on disk.

The choice is that of the smallest hashes, so it depends on which texts there are and not on their order; a text that
comes twice counts once. Memory holds three numbers a document, the words' hashes stand in a file of fixed slots.
"""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.ngrams.words import words

Array = npt.NDArray[Any]
BATCH_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Sample:
    """The documents that were chosen, by ascending key."""

    keys: Array
    """uint64."""
    draws: Array
    """uint64, uniform and independent of the keys."""
    slots: Array
    lengths: Array
    """Words."""
    width: int
    """Words a slot holds."""
    file: IO[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def passage(self, document: int) -> Array:
        """The hashes of the words of its passage, uint32."""
        self.file.seek(4 * self.width * int(self.slots[document]))
        return np.frombuffer(self.file.read(4 * int(self.lengths[document])), np.uint32)


def sample(texts: Iterable[str], documents: int, width: int, seed: int, scratch: Path | None = None) -> Sample:
    """A passage of `width` words, at a place drawn for it, of each of up to `documents` texts that have words."""
    file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  # it lives as long as the sample
    largest: list[tuple[int, int]] = []  # (−key, slot): the first is the next to go
    draws = np.zeros(documents, np.uint64)
    lengths = np.zeros(documents, np.int32)
    seen: set[int] = set()
    for batch in _batches(texts):
        drawn = [_draw(text, seed) for text in batch]
        wanted = [at for at, (key, _, _) in enumerate(drawn) if len(largest) < documents or -key > largest[0][0]]
        found = words(pa.array([batch[at] for at in wanted], pa.large_string()))
        for place, at in enumerate(wanted):
            key, draw, where = drawn[at]
            first, last = int(found.bounds[place]), int(found.bounds[place + 1])
            if key in seen or first == last:
                continue
            if len(largest) < documents:
                slot = len(largest)
                heapq.heappush(largest, (-key, slot))
            elif -key > largest[0][0]:
                gone, slot = heapq.heapreplace(largest, (-key, largest[0][1]))
                seen.discard(-gone)
            else:
                continue
            seen.add(key)
            start = first + where % max(1, last - first - width + 1)
            passage = fold(found.hashes[start : min(last, start + width)])
            file.seek(4 * width * slot)
            file.write(passage.tobytes())
            draws[slot], lengths[slot] = draw, len(passage)
    keys = np.array([-key for key, _ in largest], np.uint64)
    slots = np.array([slot for _, slot in largest], np.int64)
    order = np.argsort(keys)
    slots = slots[order]
    return Sample(keys[order], draws[slots], slots, lengths[slots], width, file)


def fold(hashes: Array) -> Array:
    """The half of each word's hash that the classifier uses, uint32."""
    return (hashes >> np.uint64(32)).astype(np.uint32)


def _draw(text: str, seed: int) -> tuple[int, int, int]:
    """Three independent numbers of 64 bits: by which texts are chosen, by which the sample is divided, the passage."""
    digest = hashlib.blake2b(text.encode(), key=f"{seed} quality".encode()[:64], digest_size=24).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big"), int.from_bytes(digest[16:], "big")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, 1)):
        held = len(batch[0])
        for text in stream:
            batch.append(text)
            held += len(text)
            if held >= BATCH_CHARACTERS:
                break
        yield batch
