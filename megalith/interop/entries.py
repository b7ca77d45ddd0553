"""Tensors of another program's model, and the ones of ours that each consists of: one table, read in both directions.

An entry names a tensor of theirs, with `{n}` for the layer's number, and ours: one, or query, key and value of a fused
one. What stands between the two is a matter of layout alone: a transpose (GPT-2 stores a linear layer as a Conv1D),
rows dealt head by head (GPT-NeoX), pairs of rotary dimensions side by side (GGUF's Llama), padding of the vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megalith.recipe import ModelConfig

QKV = ("query", "key", "value")


@dataclass(frozen=True)
class Entry:
    """A tensor of theirs, made of one or several of ours."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    """A matrix of theirs is (in, out)."""
    by_head: bool = False
    """Rows of a fused tensor: query, key and value of the first head, then of the next. Else all queries, and so on."""
    interleaved: int = 0
    """Dimensions 2i and 2i + 1 of a head are a rotary pair, not i and i + D/2; the number of heads in a whole tensor
    is the queries' (1) or the keys' (2)."""
    padded: bool = False
    """Rows are tokens: ours are padded."""

    def at(self, layer: int) -> "Entry":
        """The entry of one layer."""
        return Entry(
            self.theirs.replace("{n}", str(layer)),
            tuple(name.replace("{n}", str(layer)) for name in self.ours),
            self.transposed,
            self.by_head,
            self.interleaved,
            self.padded,
        )


def linear(theirs: str, *ours: str, **layout: Any) -> tuple[Entry, Entry]:
    """Weight and bias of a linear layer or a norm."""
    return (
        Entry(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), **layout),
        Entry(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), **layout),
    )


def fused(theirs: str, **layout: Any) -> tuple[Entry, Entry]:
    """Weight and bias of query, key and value in one."""
    return linear(theirs, *(f"layers.{{n}}.attention.{part}" for part in QKV), **layout)


def entries_of(table: Sequence[Entry], config: ModelConfig, names: Sequence[str]) -> list[Entry]:
    """The entries that a model of this shape has, its layers in order; `names` are all tensors of ours.

    Raises KeyError for a name that no entry has: the family cannot hold this model.
    """
    known = set(names)
    found = [entry for entry in _numbered(table, config.layers) if set(entry.ours) <= known]
    missing = known - {name for entry in found for name in entry.ours}
    if missing:
        raise KeyError(min(missing))
    return found


def ours_from(entry: Entry, part: int, theirs: Tensor, config: ModelConfig) -> Tensor:
    """Tensor number `part` of an entry's ours. Raises ValueError or RuntimeError where the shape does not allow it."""
    tensor = theirs.T if entry.transposed and theirs.ndim == 2 else theirs
    if len(entry.ours) > 1 and entry.by_head:
        dealt = tensor.reshape(config.heads, len(entry.ours), config.head_dim, *tensor.shape[1:])
        tensor = dealt[:, part].flatten(0, 1)
    elif len(entry.ours) > 1:
        tensor = torch.split(tensor, [config.query_width, config.kv_width, config.kv_width])[part]
    if entry.interleaved:
        heads = config.heads if entry.interleaved == 1 else config.kv_heads
        tensor = tensor.reshape(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)
    if entry.padded:
        if len(tensor) != config.vocab_size:
            raise ValueError(f"{len(tensor)} rows, and the vocabulary has {config.vocab_size}")
        padding = tensor.new_zeros(config.padded_vocab_size - len(tensor), *tensor.shape[1:])
        tensor = torch.cat([tensor, padding])
    return tensor.contiguous()


def theirs_from(entry: Entry, ours: Callable[[str], Tensor], config: ModelConfig) -> Tensor:
    """The tensor of theirs."""
    parts = [ours(name) for name in entry.ours]
    if entry.by_head:
        parts = [part.reshape(config.heads, config.head_dim, *part.shape[1:]) for part in parts]
        tensor = torch.stack(parts, dim=1).flatten(0, 2)
    else:
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
    if entry.interleaved:
        heads = config.heads if entry.interleaved == 1 else config.kv_heads
        tensor = tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 2)
    if entry.padded:
        tensor = tensor[: config.vocab_size]
    return (tensor.T if entry.transposed and tensor.ndim == 2 else tensor).contiguous()


def theirs_shape(entry: Entry, shapes: Mapping[str, tuple[int, ...]], config: ModelConfig) -> tuple[int, ...]:
    """The shape of the tensor of theirs, by the shapes of ours."""
    rows = config.vocab_size if entry.padded else sum(shapes[name][0] for name in entry.ours)
    shape = (rows, *shapes[entry.ours[0]][1:])
    return shape[::-1] if entry.transposed and len(shape) == 2 else shape


def _numbered(table: Sequence[Entry], layers: int) -> Iterator[Entry]:
    for entry in table:
        if "{n}" not in entry.theirs:
            yield entry
    for number in range(layers):
        yield from (entry.at(number) for entry in table if "{n}" in entry.theirs)
