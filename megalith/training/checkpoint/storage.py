"""DCP's storage over safetensors and a JSON index: its two interfaces, and the index that they share.

torch's own writer of safetensors reads neither digests nor an index, and takes what it finds in the directory for the
checkpoint; its default writer leaves a pickle.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from megalith.training.checkpoint.files import Written, write_whole
from megalith.training.checkpoint.state import FileName
from megalith.training.checkpoint.tensors import DTYPES, Spec, dtype_name, write_tensors

INDEX = "index.json"


class Chunk(BaseModel):
    """A block of a tensor, and the file that it lies in under the tensor's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: FileName
    offsets: list[int]
    sizes: list[int]


class Entry(BaseModel):
    """A logical tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    shape: list[int]
    chunks: list[Chunk]

    @property
    def spec(self) -> Spec:
        return Spec(DTYPES[self.dtype], tuple(self.shape))


class Index(BaseModel):
    """The content of `index.json`: every logical tensor, by `model.NAME` or `optimizer.NAME`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensors: dict[str, Entry]


class ShardWriter(StorageWriter):
    """Writes each rank's plan into one file; then the first rank writes the index and calls `commit`.

    DCP carries an error of any rank to all of them, so that none goes on alone.
    """

    def __init__(self, directory: Path, commit: Callable[[dict[str, Written]], None]) -> None:
        self.directory = directory
        self.commit = commit

    def reset(self, checkpoint_id: object = None) -> None:
        """A writer serves one save."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """A writer is made for a directory, and never looked up by one."""
        return False

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        if is_coordinator:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir(parents=True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [
            dataclasses.replace(plan, storage_data=f"shard-{rank:05d}.safetensors") for rank, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        tensors = {item.index.fqn: _tensor(planner.resolve_data(item)) for item in plan.items}
        specs = {name: Spec(each.dtype, tuple(each.shape)) for name, each in tensors.items()}
        results: list[WriteResult] = []
        if specs:
            file: str = plan.storage_data
            written = write_tensors(self.directory / file, specs, tensors.__getitem__)
            results = [WriteResult(item.index, specs[item.index.fqn].bytes, (file, written)) for item in plan.items]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        files: dict[str, Written] = {}
        where: dict[MetadataIndex, str] = {}
        for result in (each for rank in results for each in rank):
            file, written = result.storage_data
            files[file], where[result.index] = written, file
        files[INDEX] = write_whole(self.directory / INDEX, _index(metadata, where).model_dump_json().encode())
        self.commit(files)


class ShardReader(StorageReader):
    """Reads the tensors named in `wanted` (all of which the index has) as the index says."""

    def __init__(self, directory: Path, index: Index, wanted: Iterable[str]) -> None:
        self.directory = directory
        self.entries = {name: index.tensors[name] for name in wanted}

    def reset(self, checkpoint_id: object = None) -> None:
        """A reader serves one load."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: object) -> bool:
        """A reader is made for a directory, and never looked up by one."""
        return False

    def read_metadata(self) -> Metadata:
        return Metadata(
            {
                name: TensorStorageMetadata(
                    TensorProperties(entry.spec.dtype),
                    torch.Size(entry.shape),
                    [
                        ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes))
                        for chunk in entry.chunks
                    ],
                )
                for name, entry in self.entries.items()
            }
        )

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self.files = {
            MetadataIndex(name, chunk.offsets): chunk.file
            for name, entry in self.entries.items()
            for chunk in entry.chunks
        }

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            by_file.setdefault(self.files[item.storage_index], []).append(item)
        for file, items in by_file.items():
            with safe_open(self.directory / file, framework="pt") as tensors:
                for item in items:
                    target = planner.resolve_tensor(item)
                    target.copy_(_part(tensors, item))
                    planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)  # our planner knows no other
    return value


def _index(metadata: Metadata, files: Mapping[MetadataIndex, str]) -> Index:
    tensors = {}
    for name, saved in sorted(metadata.state_dict_metadata.items()):
        assert isinstance(saved, TensorStorageMetadata)  # our planner plans no other
        chunks = [
            Chunk(file=files[MetadataIndex(name, chunk.offsets)], offsets=list(chunk.offsets), sizes=list(chunk.sizes))
            for chunk in sorted(saved.chunks, key=lambda chunk: chunk.offsets)
        ]
        tensors[name] = Entry(dtype=dtype_name(saved.properties.dtype), shape=list(saved.size), chunks=chunks)
    return Index(tensors=tensors)


def _part(tensors: Any, item: ReadItem) -> Tensor:
    """The elements that an item asks for, of an open safetensors file; no others are read."""
    if not item.lengths:
        whole: Tensor = tensors.get_tensor(item.storage_index.fqn)
        return whole
    ends = zip(item.storage_offsets, item.lengths, strict=True)
    part: Tensor = tensors.get_slice(item.storage_index.fqn)[
        tuple(slice(start, start + count) for start, count in ends)
    ]
    return part
