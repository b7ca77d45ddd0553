"""The weights in a checkpoint of a run, read as they lie: pieces of each tensor in several safetensors files.

`state.json` names the digest of every other file, and `index.json` says which block of which tensor lies where; both
are written by `training.checkpoint`.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megalith.artifacts import file_digest
from megalith.artifacts.checkpoints import STATE
from megalith.errors import InputError
from megalith.input_files import read_json

INDEX = "index.json"
MODEL = "model."
Region = Sequence[slice]
"""A block of a tensor: a slice with both ends for each dimension."""


class ShardedWeights:
    """The weights of a checkpoint; parts of them are read when they are asked for."""

    def __init__(self, directory: Path) -> None:
        """Raises InputError where the checkpoint, or a file of it, is damaged."""
        self._directory = directory
        _check(directory)
        index: dict[str, Any] = read_json(directory / INDEX)["tensors"]
        self._entries = {name.removeprefix(MODEL): each for name, each in index.items() if name.startswith(MODEL)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight, by name."""
        return {name: tuple(entry["shape"]) for name, entry in self._entries.items()}

    def read(self, name: str, region: Region | None = None) -> Tensor:
        """One weight or a block of it, in fp32; only what lies in the block is read."""
        entry = self._entries[name]
        wanted = [slice(0, size) for size in entry["shape"]] if region is None else list(region)
        found = torch.empty([each.stop - each.start for each in wanted])
        for chunk in entry["chunks"]:
            starts = [max(at, each.start) for at, each in zip(chunk["offsets"], wanted, strict=True)]
            stops = [
                min(at + size, each.stop)
                for at, size, each in zip(chunk["offsets"], chunk["sizes"], wanted, strict=True)
            ]
            if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
                continue
            there = _shifted(starts, stops, chunk["offsets"])
            here = _shifted(starts, stops, [each.start for each in wanted])
            found[here] = self._part(chunk["file"], name, there)
        return found

    def _part(self, file: str, name: str, region: tuple[slice, ...]) -> Tensor:
        try:
            with safe_open(self._directory / file, framework="pt") as content:
                if not region:
                    whole: Tensor = content.get_tensor(MODEL + name)
                    return whole.float()
                part: Tensor = content.get_slice(MODEL + name)[region]
                return part.float()
        except (SafetensorError, OSError) as error:
            raise InputError(f"these weights cannot be read ({error}).", where=str(self._directory / file)) from error


def _shifted(starts: Sequence[int], stops: Sequence[int], origin: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start - at, stop - at) for start, stop, at in zip(starts, stops, origin, strict=True))


def _check(directory: Path) -> None:
    """Raise InputError unless every file is as `state.json` says, and that itself as its digest."""
    state = read_json(directory / STATE)
    try:
        sealed, said = state["sealed"], state["sha256"]
        files = {name: written["sha256"] for name, written in sealed["files"].items()}
    except (KeyError, TypeError, AttributeError):
        sealed, said, files = None, "", {}
    if hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest() != said:
        raise InputError(f"{STATE} is damaged or of another version.", where=str(directory), mend="Use another step.")
    for name, digest in files.items():
        path = directory / name
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(f"{name} is missing or damaged.", where=str(directory), mend="Use another step.")
