"""Writes fastText's binary format by hand, and computes what a model says in plain Python: an oracle for the reader."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

HS, NS, SOFTMAX, OVA = 1, 2, 3, 4


@dataclass(frozen=True)
class Model:
    """The content of a file. Words come with the most frequent first, labels too."""

    words: Sequence[str]
    labels: Sequence[str]
    rows: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    buckets: int = 0
    ngrams: int = 1
    subwords: tuple[int, int] = (0, 0)
    loss: int = SOFTMAX
    kept: dict[int, int] | None = None
    label_counts: Sequence[int] = field(default=(9, 5, 2))

    def data(self) -> bytes:
        """The file, its matrices dense."""
        return self.head() + b"\0" + dense(self.rows) + b"\0" + dense(self.output)

    def head(self, version: int = 12, kind: int = 3) -> bytes:
        dimensions = self.rows.shape[1]
        settings = (dimensions, 5, 5, 1, 5, self.ngrams, self.loss, kind, self.buckets, *self.subwords, 100)
        counts = [100 - place for place in range(len(self.words))]
        entries = [(word, count, 0) for word, count in zip(self.words, counts, strict=True)]
        entries += [(label, count, 1) for label, count in zip(self.labels, self.label_counts, strict=False)]
        pruned = -1 if self.kept is None else len(self.kept)
        return b"".join(
            [
                struct.pack("<ii12id", 793712314, version, *settings, 1e-4),
                struct.pack("<iiiqq", len(entries), len(self.words), len(self.labels), 1000, pruned),
                *(word.encode() + b"\0" + struct.pack("<qb", count, kind) for word, count, kind in entries),
                *(struct.pack("<ii", *pair) for pair in (self.kept or {}).items()),
            ]
        )

    def features(self, text: str) -> list[int]:
        """The rows of a text, after `Dictionary::getLine`."""
        tokens = [*text.replace("\0", " ").encode().split(), b"</s>"]
        ids = {word.encode(): place for place, word in enumerate(self.words)}
        found: list[int] = []
        hashes: list[int] = []
        for token in tokens:
            if token.startswith(b"__label__"):
                continue
            if token in ids:
                found.append(ids[token])
            if self.subwords[1] and token != b"</s>":
                marked = f"<{token.decode()}>"
                for first in range(len(marked)):
                    for length in range(self.subwords[0], self.subwords[1] + 1):
                        run = marked[first : first + length]
                        at_an_end = length == 1 and (first == 0 or first == len(marked) - 1)
                        if len(run) == length and not at_an_end:
                            found += self.bucket(fnv(run.encode()) % self.buckets)
            state = fnv(token)
            hashes.append(state - (1 << 32) if state >= 1 << 31 else state)
            if token == b"</s>":
                break
        for first in range(len(hashes) if self.ngrams > 1 else 0):
            state = hashes[first] % (1 << 64)
            for place in range(first + 1, min(first + self.ngrams, len(hashes))):
                state = (state * 116049371 + hashes[place]) % (1 << 64)
                found += self.bucket(state % self.buckets)
        return found

    def bucket(self, number: int) -> list[int]:
        if self.kept is None:
            return [len(self.words) + number]
        return [len(self.words) + self.kept[number]] if number in self.kept else []

    def probabilities(self, text: str) -> list[float]:
        """Probabilities of a softmax, or of labels one by one (with the exact sigmoid where fastText has a table)."""
        rows = self.features(text)
        if not rows:
            return [0.0] * len(self.labels)
        logits = (self.output.astype(float) @ self.rows[rows].astype(float).mean(axis=0)).tolist()
        if self.loss == HS:
            return self.descend(logits)
        if self.loss == SOFTMAX:
            total = sum(map(math.exp, logits))
            return [min(1.0, math.exp(value) / total + 1e-5) for value in logits]
        return [min(1.0, 1 / (1 + math.exp(-value)) + 1e-5) for value in logits]

    def descend(self, logits: Sequence[float]) -> list[float]:
        """Three labels of counts a ≥ b ≥ c: the last two are put together first, then the heavier pair."""
        (a, b, c), (low, root) = self.label_counts, logits[:2]
        assert a > b + c, "the tree below is for these"
        pair, inner = ((c, 2), (b, 1)), 1 / (1 + math.exp(-low))
        of_root = 1 / (1 + math.exp(-root))
        found = [0.0, 0.0, 0.0]
        found[0] = of_root + 1e-5  # the heavier child of the root is its right one
        found[pair[0][1]] = (1 - of_root + 1e-5) * (1 - inner + 1e-5)
        found[pair[1][1]] = (1 - of_root + 1e-5) * (inner + 1e-5)
        return [min(1.0, value) for value in found]

    def write(self, path: Path) -> Path:
        path.write_bytes(self.data())
        return path


def dense(matrix: npt.NDArray[np.float32]) -> bytes:
    return struct.pack("<qq", *matrix.shape) + matrix.astype("<f4").tobytes()


def fnv(data: bytes) -> int:
    """FNV-1a of 32 bits, over signed bytes."""
    state = 2166136261
    for byte in data:
        state = ((state ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) % (1 << 32)
    return state
