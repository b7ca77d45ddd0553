"""Shards against `megatron.core.datasets.indexed_dataset`, in both directions."""

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megalith.errors import InputError
from megalith.tokens import Shards, write_shards

with warnings.catch_warnings():  # of Transformer Engine and Apex, which reading a file does not take
    warnings.simplefilter("ignore")
    indexed: Any = pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="megatron-core is missing: pip install --no-deps megatron-core"
    )

DOCUMENTS = [[5, 6, 7, 0], [0], [], [100, 1, 0], [2] * 10 + [0], []]


def write_by_megatron(prefix: Path, documents: Sequence[Sequence[int]], dtype: type, cut: int | None = None) -> Path:
    """Write documents with Megatron's own builder, each as one sequence or cut into sequences of `cut` tokens."""
    builder = indexed.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for document in documents:
        lengths = [len(document[at : at + cut]) for at in range(0, len(document), cut)] if cut else [len(document)]
        builder.add_document(document, lengths)
    builder.finalize(f"{prefix}.idx")
    return prefix


def files(prefix: Path) -> tuple[bytes, bytes]:
    return Path(f"{prefix}.bin").read_bytes(), Path(f"{prefix}.idx").read_bytes()


@pytest.mark.parametrize("vocab_size", [257, 65_499, 65_500, 65_536, 65_537])
def test_shards_are_to_the_byte_those_of_megatrons_builder(tmp_path: Path, vocab_size: int) -> None:
    write_shards(tmp_path / "ours", DOCUMENTS, vocab_size)
    theirs = write_by_megatron(tmp_path / "theirs", DOCUMENTS, indexed.DType.optimal_dtype(vocab_size))
    assert files(tmp_path / "ours") == files(theirs)


@pytest.mark.parametrize("mmap", [True, False])
def test_megatron_reads_shards_unchanged(tmp_path: Path, mmap: bool) -> None:
    prefix = tmp_path / "my.corpus_text_document"
    write_shards(prefix, DOCUMENTS, 50_257)
    read = indexed.IndexedDataset(str(prefix), mmap=mmap)
    assert [read[number].tolist() for number in range(len(read))] == DOCUMENTS
    assert read.document_indices.tolist() == list(range(len(DOCUMENTS) + 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("cut", [None, 2])
def test_whatever_megatron_writes_of_whole_numbers_is_read(tmp_path: Path, dtype: type, cut: int | None) -> None:
    shards = Shards(write_by_megatron(tmp_path / "theirs", DOCUMENTS, dtype, cut))
    assert [shards.document(number).tolist() for number in range(shards.documents)] == DOCUMENTS
    assert shards.stream.dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_ids_are_refused(tmp_path: Path, dtype: type) -> None:
    prefix = write_by_megatron(tmp_path / "theirs", DOCUMENTS, dtype)
    with pytest.raises(InputError, match="floating-point"):
        Shards(prefix)


def test_a_multimodal_index_is_refused_by_that_name(tmp_path: Path) -> None:
    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "both.bin"), dtype=np.int32, multimodal=True)
    builder.add_item(torch.tensor([1, 2, 3]), mode=1)
    builder.end_document()
    builder.finalize(str(tmp_path / "both.idx"))
    with pytest.raises(InputError, match="multimodal"):
        Shards(tmp_path / "both")


def test_merged_shards_read_as_both_after_one_another(tmp_path: Path) -> None:
    first, second = (write_by_megatron(tmp_path / name, DOCUMENTS, np.uint16, 3) for name in ("first", "second"))
    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "merged.bin"), dtype=np.uint16)
    builder.add_index(str(first))
    builder.add_index(str(second))
    builder.finalize(str(tmp_path / "merged.idx"))
    merged, both = Shards(tmp_path / "merged"), Shards(first, second)
    assert merged.documents == both.documents == 2 * len(DOCUMENTS)
    assert merged.stream[:].tolist() == both.stream[:].tolist()


@pytest.mark.parametrize("count", [2**40, 2**61, 2**64 - 1])
@pytest.mark.parametrize("place", [18, 26])
def test_counts_that_lie_are_refused_before_anything_is_allocated(tmp_path: Path, place: int, count: int) -> None:
    prefix = write_by_megatron(tmp_path / "theirs", DOCUMENTS, np.uint16)
    index = bytearray(Path(f"{prefix}.idx").read_bytes())
    index[place : place + 8] = struct.pack("<Q", count)
    Path(f"{prefix}.idx").write_bytes(index)
    with pytest.raises(InputError, match="promises"):
        Shards(prefix)


def test_items_without_the_end_of_a_document_are_refused_as_megatron_does(tmp_path: Path) -> None:
    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "open.bin"), dtype=np.int32)
    builder.add_item(torch.tensor([1, 2, 3]))
    builder.finalize(str(tmp_path / "open.idx"))
    with pytest.raises(AssertionError):
        indexed.IndexedDataset(str(tmp_path / "open"))
    with pytest.raises(InputError, match="do not cover"):
        Shards(tmp_path / "open")
