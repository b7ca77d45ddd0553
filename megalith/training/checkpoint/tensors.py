"""Safetensors files written as a stream: one tensor in memory at a time, digested on the way to the disk.

The format: eight bytes with the length of a JSON header, the header, the tensors' bytes end to end. Wider types come
first, so that every tensor is aligned. Reading is left to the safetensors library.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megalith.training.checkpoint.files import Written

DTYPES = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "I8": torch.int8,
    "U8": torch.uint8,
}
"""Dtypes by their names in safetensors."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT_BYTES = 8
_BLOCK_BYTES = 2**22  # still in the processor's cache when it is written after it was digested


@dataclass(frozen=True)
class Spec:
    """Dtype and shape of a tensor that is yet to be read."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * int(torch.Size(self.shape).numel())


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in safetensors."""
    return _NAMES[dtype]


def write_tensors(
    path: Path, specs: Mapping[str, Spec], tensor: Callable[[str], Tensor], metadata: Mapping[str, str] | None = None
) -> Written:
    """Write the tensors that `tensor` gives for each name of `specs`, and flush them to the disk.

    Equal tensors give equal bytes. Raises OSError, and leaves what it had written by then.
    """
    names = sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        header = _header(names, specs, metadata)
        digest.update(header)
        file.write(header)
        for name in names:
            content = memoryview(_bytes(tensor(name)))
            for start in range(0, len(content), _BLOCK_BYTES):
                block = content[start : start + _BLOCK_BYTES]
                digest.update(block)
                file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return Written(bytes=file.tell(), sha256=digest.hexdigest())


def _header(names: list[str], specs: Mapping[str, Spec], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        start, end = end, end + specs[name].bytes
        entries[name] = {
            "dtype": dtype_name(specs[name].dtype),
            "shape": list(specs[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
