"""A GGUF file as a model of ours: weights (blocks become fp32), shape, tokenizer."""

import json
from pathlib import Path

import torch
from torch import Tensor

from megalith.errors import InputError, UnsupportedError
from megalith.interop import gguf_families
from megalith.interop.entries import Entry, entries_of, ours_from
from megalith.interop.gguf_families import RATES
from megalith.interop.gguf_file import GgufFile
from megalith.interop.gguf_tokenizer import read_tokenizer
from megalith.interop.huggingface import finite, refuse_larger_tokenizer, shapes_of
from megalith.interop.source import Source
from megalith.recipe.yaml_values import shorten
from megalith.training.checkpoint.tensors import Spec

_KEPT_CHARACTERS = 2**16


def open_gguf(path: Path) -> Source:
    """Read a GGUF file's metadata.

    Raises UnsupportedError that names the key which cannot be held, InputError for what is damaged or does not fit.
    """
    file = GgufFile(path)
    where = str(path)
    if file.fields.get("split.count", 1) > 1:
        raise UnsupportedError("a model in several files cannot be imported.", where=f"{where}: split.count")
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    divisors = file.read(RATES) if RATES in shapes else None
    architecture, config = gguf_families.read(file.fields, shapes, divisors, where)
    wanted = shapes_of(config)
    try:
        entries = entries_of(architecture.entries, config, list(wanted))
    except KeyError as missing:
        raise UnsupportedError(f"{missing} has no place in a {architecture.name}.", where=where) from missing
    _refuse_misfits(entries, shapes, where)
    places: dict[str, tuple[Entry, int]] = {
        name: (entry, part) for entry in entries for part, name in enumerate(entry.ours)
    }

    def tensor(name: str) -> Tensor:
        entry, part = places[name]
        found = file.read(entry.theirs)
        try:
            made = ours_from(entry, part, found, config)
        except (ValueError, RuntimeError, IndexError) as error:
            raise _misfit(entry, found, name, wanted[name], where) from error
        if tuple(made.shape) != wanted[name]:
            raise _misfit(entry, found, name, wanted[name], where)
        return finite(made, entry.theirs, where)

    model, conventions = read_tokenizer(file.fields, where)
    refuse_larger_tokenizer(len(file.fields["tokenizer.ggml.tokens"]), config, path)
    kept = {
        key: value
        for key, value in file.fields.items()
        if not isinstance(value, list) and len(str(value)) <= _KEPT_CHARACTERS
    }
    licence = file.fields.get("general.license")
    return Source(
        family=architecture.name,
        config=config,
        specs={name: Spec(file.tensors[places[name][0].theirs].dtype, shape) for name, shape in wanted.items()},
        tensor=tensor,
        tokenizer=model.to_str(pretty=True),
        conventions=conventions,
        files=(path,),
        kept={"metadata.json": json.dumps(kept, indent=1, default=str)},
        licence=licence if isinstance(licence, str) else None,
    )


def _refuse_misfits(entries: list[Entry], shapes: dict[str, tuple[int, ...]], where: str) -> None:
    known = {entry.theirs for entry in entries} | {RATES}
    said = [f"{entry.theirs} is missing" for entry in entries if entry.theirs not in shapes]
    said += [f"{shorten(name)} is unknown" for name in shapes if name not in known]
    if said:
        more = f" (and {len(said) - 3} more)" if len(said) > 3 else ""
        raise InputError(f"the tensors do not fit the metadata: {'; '.join(said[:3])}{more}.", where=where)


def _misfit(entry: Entry, found: torch.Tensor, name: str, wanted: tuple[int, ...], where: str) -> InputError:
    return InputError(
        f"{entry.theirs} is {tuple(found.shape)}, which does not give {name} of {wanted}: the tensors do not fit the "
        "metadata.",
        where=where,
    )
