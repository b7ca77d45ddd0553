"""Reads supervised fastText models (.bin, and quantized .ftz) and gives the probabilities that fastText gives.

The format is fastText's own (its `saveModel`, versions 11 and 12), and nothing in it is code: numbers, and the words of
a dictionary. As the hidden layer is the mean of a text's rows and the output is linear, the rows are multiplied by the
output once, on reading, where labels are fewer than dimensions: a model of two labels keeps two numbers a row, and to
score a text is to look them up. Nothing is trained here, and models without labels are not read.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.text.fasttext.features import Vocabulary, index_words, mean_rows
from megalith.curation.text.fasttext.losses import HIERARCHICAL_SOFTMAX, LOSSES, Tree, huffman, probabilities
from megalith.errors import InputError, UnsupportedError

Array = npt.NDArray[Any]

MAGIC = 793712314
VERSIONS = (11, 12)
SUPERVISED = 3
ROWS_AT_A_TIME = 1 << 16
CENTROIDS = 256


@dataclass(frozen=True)
class FastText:
    """A model that has been read."""

    labels: tuple[str, ...]
    """With their prefix, as the model has them."""
    vocabulary: Vocabulary
    rows: Array
    """float32 (words and buckets, values): what each feature adds to the logits, or to the hidden layer."""
    output: Array | None
    """float32 (logits, hidden); None where the rows are multiplied by it already."""
    loss: int
    tree: Tree | None
    """The tree of a hierarchical softmax."""

    def probabilities(self, texts: pa.Array) -> Array:
        """Predict as fastText does, float32 (documents, labels); zeros for a text without a known feature.

        Line ends count as spaces. fastText adds 1e-5 to every probability (of a hierarchical softmax, to its factors),
        and so does this, but for what would be above 1.
        """
        means, known = mean_rows(texts, self.vocabulary, self.rows)
        logits = means if self.output is None else means @ self.output.T
        found = probabilities(logits, self.loss, self.tree)
        found[~known] = 0.0
        return found

    def scores(self, texts: pa.Array, label: str) -> Array:
        """The probability of one label, float32 (documents,). Raises InputError when the model does not have it."""
        if label not in self.labels:
            more = " …" if len(self.labels) > 8 else ""
            raise InputError(
                f"the model has no label {label!r}.",
                where="curate.quality.positive_label",
                mend=f"It has {', '.join(self.labels[:8])}{more}.",
            )
        return np.ascontiguousarray(self.probabilities(texts)[:, self.labels.index(label)])


def read_fasttext(path: Path) -> FastText:
    """The model in a file.

    Raises InputError where the file is missing, truncated or of another kind, and UnsupportedError for a model that
    was not trained on labels.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise _damaged(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Source(data, path))
    except OSError as error:
        raise InputError(f"this model cannot be read: {error.strerror or error}.", where=str(path)) from error


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"this is no whole fastText model: {what}.",
        where=str(path),
        mend="Use a .bin or .ftz file as fastText saved it.",
    )


class _Source:
    """A file that is read from its start, and complains where it cannot hold what it says."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._at = 0
        self.path = path

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def take(self, size: int) -> bytes:
        """The next bytes. Sizes are compared with the file's before anything is set aside for them."""
        start = self.skip(size)
        return self._data[start : start + size]

    def skip(self, size: int) -> int:
        """Pass over so many bytes; where they start."""
        start = self._at
        if not 0 <= size <= len(self._data) - start:
            raise self.damaged("it ends too soon, or a size in it is wrong")
        self._at += size
        return start

    def between(self, start: int, size: int) -> bytes:
        return self._data[start : start + size]

    def word(self) -> bytes:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self.damaged("it ends within its dictionary")
        found = self._data[self._at : end]
        self._at = end + 1
        return found

    def damaged(self, what: str) -> InputError:
        return _damaged(self.path, what)


def _read(source: _Source) -> FastText:
    if len(source.between(0, 8)) < 8 or source.numbers("i") != (MAGIC,):
        raise source.damaged("it does not begin as one")
    (version,) = source.numbers("i")
    if version not in VERSIONS:
        raise source.damaged(f"its version is {version}, not 11 or 12")
    dimensions, _, _, _, _, ngram_words, loss, model, buckets, shortest, longest, _, _ = source.numbers("12id")
    if model != SUPERVISED:
        raise UnsupportedError(
            "this fastText model has word vectors and no labels.",
            where=str(source.path),
            mend="Use one trained with `fasttext supervised`.",
        )
    if loss not in LOSSES or not 0 < dimensions <= 1 << 16 or not 0 <= buckets <= 1 << 30 or ngram_words < 1:
        raise source.damaged("its settings cannot be")
    words, labels, counts, kept_buckets = _read_dictionary(source, buckets)
    (quantized,) = source.numbers("?")
    size, blocks = (_quantized if quantized else _dense)(source, dimensions)
    if size != len(words) + (buckets if kept_buckets is None else int((kept_buckets >= 0).sum())):
        raise source.damaged(f"its matrix has {size} rows, which does not go with its dictionary")
    (output_is_quantized,) = source.numbers("?")
    length, of_output = (_quantized if quantized and output_is_quantized else _dense)(source, dimensions)
    if length != len(labels):
        raise source.damaged(f"it has {len(labels)} labels and an output of {length}")
    output = np.concatenate([block for _, block in of_output])
    projected = length < dimensions
    rows = np.empty((size, length if projected else dimensions), np.float32)
    for first, block in blocks:
        rows[first : first + len(block)] = block @ output.T if projected else block
    return FastText(
        labels=tuple(label.decode(errors="replace") for label in labels),
        vocabulary=index_words(
            words,
            labels,
            buckets=buckets,
            kept_buckets=kept_buckets,
            ngram_words=ngram_words,
            subwords=(shortest, longest) if version > 11 else (0, 0),  # until 11 supervised models had none
        ),
        rows=rows,
        output=None if projected else output,
        loss=loss,
        tree=huffman(counts) if loss == HIERARCHICAL_SOFTMAX else None,
    )


def _read_dictionary(source: _Source, buckets: int) -> tuple[list[bytes], list[bytes], list[int], Array | None]:
    """Words, labels, the labels' counts, and for each bucket its row where the model was pruned."""
    size, number_of_words, number_of_labels, _, pruned = source.numbers("iiiqq")
    if number_of_words < 0 or number_of_labels < 1 or size != number_of_words + number_of_labels:
        raise source.damaged("its dictionary does not add up")
    entries, counts = [], []
    for place in range(size):
        entries.append(source.word())
        count, kind = source.numbers("qb")
        counts.append(count)
        if kind != (place >= number_of_words):
            raise source.damaged("its dictionary is not words first and labels then")
    kept_buckets = None
    if pruned >= 0:
        pairs = np.frombuffer(source.take(8 * pruned), "<i4").reshape(-1, 2)
        if pairs.size and not (
            pairs.min() >= 0 and pairs[:, 0].max() < buckets and np.array_equal(np.sort(pairs[:, 1]), np.arange(pruned))
        ):
            raise source.damaged("the list of kept buckets cannot be")
        kept_buckets = np.full(max(buckets, 1), -1, np.int32)
        kept_buckets[pairs[:, 0]] = pairs[:, 1]
    return entries[:number_of_words], entries[number_of_words:], counts[number_of_words:], kept_buckets


Blocks = Iterator[tuple[int, Array]]
"""First row, and rows as float32 (rows, dimensions)."""


def _dense(source: _Source, dimensions: int) -> tuple[int, Blocks]:
    size, width = source.numbers("qq")
    if width != dimensions or size < 0:
        raise source.damaged(f"a matrix is {size} × {width}, and its dimension {dimensions}")
    start = source.skip(4 * size * width)

    def blocks() -> Blocks:
        for first in range(0, size, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, size - first)
            data = source.between(start + 4 * first * width, 4 * count * width)
            yield first, np.frombuffer(data, "<f4").reshape(count, width)

    return size, blocks()


def _quantized(source: _Source, dimensions: int) -> tuple[int, Blocks]:
    """A product quantizer: every part of a row is one of 256 centroids, and the row's norm may be one of 256 too."""
    with_norms, size, width, code_bytes = source.numbers("?qqi")
    if width != dimensions or size < 0 or code_bytes < 0:
        raise source.damaged(f"a matrix is {size} × {width}, and its dimension {dimensions}")
    codes = np.frombuffer(source.take(code_bytes), np.uint8)
    parts, centroids = _read_quantizer(source, width)
    if code_bytes != size * parts:
        raise source.damaged("the codes of a quantized matrix are too many or too few")
    codes = codes.reshape(size, parts)
    norms = np.ones(size, np.float32)
    if with_norms:
        norm_codes = np.frombuffer(source.take(size), np.uint8)
        _, of_norms = _read_quantizer(source, 1)
        norms = of_norms[0][norm_codes, 0]

    def blocks() -> Blocks:
        for first in range(0, size, ROWS_AT_A_TIME):
            those = slice(first, first + ROWS_AT_A_TIME)
            found = np.concatenate([centroids[part][codes[those, part]] for part in range(parts)], axis=1)
            yield first, found * norms[those, None]

    return size, blocks()


def _read_quantizer(source: _Source, dimensions: int) -> tuple[int, list[Array]]:
    """The number of parts of a row, and each part's centroids, float32 (256, dimensions of the part)."""
    whole, parts, of_part, of_last = source.numbers("iiii")
    if whole != dimensions or parts < 1 or (parts - 1) * of_part + of_last != dimensions or min(of_part, of_last) < 1:
        raise source.damaged("a quantizer does not go with its matrix")
    found = np.frombuffer(source.take(4 * dimensions * CENTROIDS), "<f4")
    widths = [of_part] * (parts - 1) + [of_last]
    starts = np.cumsum([0, *widths]) * CENTROIDS
    return parts, [
        found[start : start + CENTROIDS * width].reshape(CENTROIDS, width)
        for start, width in zip(starts, widths, strict=False)
    ]
