"""A model of ours as the files of a Hugging Face directory, written one tensor at a time."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from megalith.artifacts import Workspace
from megalith.errors import UnsupportedError
from megalith.interop.checkpoint import Checkpoint
from megalith.interop.entries import Entry, entries_of, theirs_from, theirs_shape
from megalith.interop.families import FAMILIES
from megalith.interop.family import Family, family_of, write
from megalith.interop.huggingface import shapes_of
from megalith.interop.safetensors_files import INDEX, WEIGHTS
from megalith.interop.tokenizer_files import token_ids, tokenizer_config, tokenizer_json
from megalith.recipe import ModelConfig
from megalith.training.checkpoint.tensors import Spec, write_tensors

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHARD_BYTES = 5_000_000_000
"""The most of one file, as transformers cuts them; a tensor is never cut."""


class Theirs:
    """The tensors of another program, made of a checkpoint's."""

    def __init__(self, model: Checkpoint, config: ModelConfig, table: tuple[Entry, ...], dtype: torch.dtype) -> None:
        """`config` may have biases that the model lacks: they are 0."""
        self.model, self.config, self.dtype = model, config, dtype
        self.shapes = shapes_of(config)
        self.entries = {entry.theirs: entry for entry in entries_of(table, config, list(self.shapes))}

    @property
    def specs(self) -> dict[str, Spec]:
        return {
            name: Spec(self.dtype, theirs_shape(entry, self.shapes, self.config))
            for name, entry in self.entries.items()
        }

    def tensor(self, name: str) -> Tensor:
        """The tensor of theirs. Raises UnsupportedError where a number is too large for F16."""
        made = theirs_from(self.entries[name], self._ours, self.config)
        narrow = made.to(self.dtype)
        if self.dtype == torch.float16 and not bool(torch.isfinite(narrow).all()):
            raise UnsupportedError(
                f"{name} has numbers beyond F16's range.", where="--type F16", mend="Use --type BF16."
            )
        return narrow

    def _ours(self, name: str) -> Tensor:
        if name in self.model.specs:
            return self.model.tensor(name)
        assert name.endswith(".bias")  # `family_of` adds no other
        return torch.zeros(self.shapes[name])


def write_huggingface(
    model: Checkpoint, workspace: Workspace, kind: str | None, shard_bytes: int = SHARD_BYTES
) -> dict[str, Any]:
    """Write config, generation config, weights and tokenizer; returns `family` and the names of the weights' files.

    Raises UnsupportedError for a model that no family of Hugging Face's holds.
    """
    family, config = family_of(FAMILIES, model.config)
    dtype = DTYPES[kind] if kind else _dtype(model)
    theirs = Theirs(model, config, family.entries, dtype)
    files = _write_weights(theirs, workspace, shard_bytes)
    workspace.write_json("config.json", _config(family, config, model, dtype))
    if config.family == "gpt":
        workspace.write_json("generation_config.json", token_ids(model.tokenizer))
    workspace.write_json("tokenizer_config.json", tokenizer_config(model.tokenizer, config))
    with workspace.file("tokenizer.json") as path:
        path.write_text(tokenizer_json(model.tokenizer), encoding="utf-8")
    return {"family": family.name, "weights": files, "zero_biases": config.bias != model.config.bias}


def _config(family: Family, config: ModelConfig, model: Checkpoint, dtype: torch.dtype) -> dict[str, Any]:
    return {
        **{key: value for key, value in write(family, config).items() if value is not None},
        **token_ids(model.tokenizer),
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _dtype(model: Checkpoint) -> torch.dtype:
    """The widest type that the weights have."""
    return max({spec.dtype for spec in model.specs.values()}, key=lambda dtype: (dtype.itemsize, str(dtype)))


def _write_weights(theirs: Theirs, workspace: Workspace, shard_bytes: int) -> list[str]:
    shards: list[dict[str, Spec]] = [{}]
    for name, spec in theirs.specs.items():
        if shards[-1] and sum(each.bytes for each in shards[-1].values()) + spec.bytes > shard_bytes:
            shards.append({})
        shards[-1][name] = spec
    files = [_file(number, len(shards)) for number in range(1, len(shards) + 1)]
    for file, specs in zip(files, shards, strict=True):
        with workspace.file(file) as path:
            write_tensors(path, specs, theirs.tensor, {"format": "pt"})
    if len(shards) > 1:
        _write_index(dict(zip(files, shards, strict=True)), workspace)
    return files


def _file(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _write_index(files: Mapping[str, Mapping[str, Spec]], workspace: Workspace) -> None:
    total = sum(spec.bytes for specs in files.values() for spec in specs.values())
    places = {name: file for file, specs in files.items() for name in specs}
    with workspace.file(INDEX) as path:
        path.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1) + "\n")
