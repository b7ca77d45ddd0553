"""The parts of a GGUF file: metadata, and tensors where they lie. The format is ggml's docs/gguf.md, versions 2 and 3.

The header is read here and not by the `gguf` package, since a header may lie: every count and every offset is held
against the size of the file before it is believed. Quantised blocks are that package's (`megalith[gguf]`).
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megalith.errors import InputError, UnsupportedError
from megalith.recipe.yaml_values import shorten

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PLAIN = {0: ("F32", torch.float32), 1: ("F16", torch.float16), 30: ("BF16", torch.bfloat16)}
QUANTISED = {
    2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
}  # fmt: skip
"""Types of blocks that are read, by their number in a file."""
_MOST_DIMENSIONS = 4
_MOST_NAME_BYTES = 4096


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in the file."""

    kind: int
    shape: tuple[int, ...]
    """Rows first, as torch has it."""
    offset: int
    """From the beginning of the file."""
    bytes: int

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers; quantised ones become fp32."""
        return _PLAIN[self.kind][1] if self.kind in _PLAIN else torch.float32


class GgufFile:
    """An open GGUF file."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises InputError where it does not fit the file, or another type of blocks is in it."""
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"this file cannot be read: {error}.", where=str(path)) from error
        self._place = 0
        if self._data[:4] != b"GGUF":
            raise InputError("this is not a GGUF file.", where=str(path))
        self._place = 4
        version, tensors, fields = self._unpack("<IQQ")
        if version not in (2, 3):
            raise UnsupportedError(f"version {version} of GGUF cannot be read, but 2 and 3.", where=str(path))
        self.fields: Mapping[str, Any] = dict(self._field() for _ in range(self._count(fields, 13)))
        self.tensors: Mapping[str, GgufTensor] = self._tensors(self._count(tensors, 24))

    def read(self, name: str) -> Tensor:
        """A tensor; blocks become fp32."""
        tensor = self.tensors[name]
        content = np.frombuffer(self._data, np.uint8, tensor.bytes, tensor.offset)
        if tensor.kind in _PLAIN:
            plain = torch.from_numpy(content.copy()).view(_PLAIN[tensor.kind][1])
            return plain.reshape(tensor.shape)
        gguf = quantisation()
        rows = content.reshape(*tensor.shape[:-1], -1)
        return torch.from_numpy(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(tensor.kind))).reshape(
            tensor.shape
        )

    def _tensors(self, count: int) -> dict[str, GgufTensor]:
        headers = []
        for _ in range(count):
            name = self._string(_MOST_NAME_BYTES)
            (dimensions,) = self._unpack("<I")
            if dimensions > _MOST_DIMENSIONS:
                raise self._lies(f"{shorten(name)} has {dimensions} dimensions")
            shape = self._unpack(f"<{dimensions}Q")[::-1]
            headers.append((name, shape, *self._unpack("<IQ")))
        alignment = self.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise self._lies(f"general.alignment is {shorten(str(alignment))}")
        start = -(-self._place // alignment) * alignment
        found: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in headers:
            size = self._bytes(name, shape, kind)
            if name in found:
                raise self._lies(f"{shorten(name)} stands in it twice")
            if start + offset + size > len(self._data):
                raise self._lies(f"{shorten(name)} would end at byte {start + offset + size:,}")
            found[name] = GgufTensor(kind, shape, start + offset, size)
        return found

    def _bytes(self, name: str, shape: tuple[int, ...], kind: int) -> int:
        if not shape or not all(shape):
            raise self._lies(f"{shorten(name)} is {shape}")
        if kind in _PLAIN:
            return prod(shape) * _PLAIN[kind][1].itemsize
        if kind not in QUANTISED:
            raise UnsupportedError(
                f"{shorten(name)} is of the type {kind}; known are F32, F16, BF16, {', '.join(QUANTISED.values())}.",
                where=str(self.path),
            )
        gguf = quantisation()
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        if shape[-1] % block:
            raise self._lies(f"{shorten(name)} has rows of {shape[-1]}, and blocks of {block}")
        return int(prod(shape) // block * size)

    def _field(self) -> tuple[str, Any]:
        name = self._string(2**16)
        (kind,) = self._unpack("<I")
        return name, self._value(kind, name)

    def _value(self, kind: int, name: str, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self._unpack(f"<{_SCALARS[kind]}")[0]
        if kind == _STRING:
            return self._string(len(self._data))
        if kind != _ARRAY or depth > 1:
            raise self._lies(f"{shorten(name)} has a value of the type {kind}")
        inner, count = self._unpack("<IQ")
        if inner in _SCALARS:
            code = _SCALARS[inner]
            return list(self._unpack(f"<{self._count(count, struct.calcsize(f'<{code}'))}{code}"))
        return [self._value(inner, name, depth + 1) for _ in range(self._count(count, 8))]

    def _string(self, most: int) -> str:
        (length,) = self._unpack("<Q")
        if length > min(most, len(self._data) - self._place):
            raise self._lies(f"a text of {length:,} bytes would begin at byte {self._place:,}")
        content = self._data[self._place : self._place + length]
        self._place += length
        return content.decode(errors="replace")

    def _unpack(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        if self._place + size > len(self._data):
            raise self._lies("its header goes on after its end")
        found = struct.unpack_from(form, self._data, self._place)
        self._place += size
        return found

    def _count(self, said: int, least_bytes: int) -> int:
        """A count, if so many things of at least this size can still come."""
        if said * least_bytes > len(self._data) - self._place:
            raise self._lies(f"{said:,} entries are said to follow byte {self._place:,}")
        return said

    def _lies(self, what: str) -> InputError:
        return InputError(
            f"the header of this GGUF file does not fit its {len(self._data):,} bytes: {what}. It is cut short or "
            "damaged.",
            where=str(self.path),
            mend="Fetch it again.",
        )


def quantisation() -> Any:
    """The `gguf` package. Raises UnsupportedError where it is not installed."""
    if find_spec("gguf") is None:
        raise UnsupportedError(
            "quantised tensors want the package gguf.", where="gguf", mend="Install it: pip install 'megalith[gguf]'."
        )
    return import_module("gguf")
