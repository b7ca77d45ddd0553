"""A Hugging Face directory as a model of ours: config.json, safetensors, tokenizer.json. Nothing in it is executed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megalith.console import note
from megalith.errors import InputError, UnsupportedError
from megalith.input_files import read_bytes, read_json
from megalith.interop import family as families
from megalith.interop.conventions import conventions_of, read_tokenizer
from megalith.interop.entries import Entry, entries_of, ours_from
from megalith.interop.families import BY_NAME
from megalith.interop.family import Family
from megalith.interop.safetensors_files import INDEX, SafetensorsFiles
from megalith.interop.source import Source
from megalith.model import MODELS
from megalith.model.initialise import initial_value
from megalith.recipe import ModelConfig
from megalith.recipe.yaml_values import shorten
from megalith.training.checkpoint.tensors import Spec

CONFIG = "config.json"
_KEPT = (
    CONFIG, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "README.md", "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*",
)  # fmt: skip
_KEPT_BYTES = 4 * 2**20
_RENAMED = {".gamma": ".weight", ".beta": ".bias"}
"""Names of a norm's tensors in old files, and today's."""
HEADS = ("heads.", "output.")
"""Beginnings of names of ours that hidden states do without."""


def open_directory(directory: Path, *, heads: bool = True) -> Source:
    """Read a directory's small files and the headers of its weights.

    Without `heads`, those that are not there are not among the tensors; else they are missing, or drawn anew. Raises
    UnsupportedError that names the key of config.json which cannot be held, InputError for what is missing, damaged, or
    does not fit together.
    """
    path = directory / CONFIG
    told = read_json(path)
    if not isinstance(told, dict):
        raise InputError("this is not a JSON object.", where=str(path))
    family = _family(told, path, heads=heads)
    config = families.read(family, told, str(path))
    files = SafetensorsFiles(directory)
    table = _Table(family, config, files, directory, heads=heads)
    content, tokenizer = read_tokenizer(directory / "tokenizer.json")
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    refuse_larger_tokenizer(size, config, directory)
    kept = _kept(directory)
    small = [directory / name for name in (INDEX, "tokenizer.json", "chat_template.json")]
    return Source(
        family=family.name,
        config=config,
        specs=table.specs if heads else {name: spec for name, spec in table.specs.items() if name in table.places},
        tensor=table.read,
        tokenizer=content,
        conventions=conventions_of(directory, tokenizer, told),
        files=(*files.files, *(file for file in small if file.is_file()), *(directory / name for name in kept)),
        kept=kept,
        licence=licence_of(kept),
    )


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model; a tied one stands once.

    Raises UnsupportedError for a model that is not built yet.
    """
    with torch.device("meta"):
        model = MODELS[config.family](config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def refuse_larger_tokenizer(size: int, config: ModelConfig, where: Path) -> None:
    """Raise InputError where a tokenizer has tokens that the embedding has not."""
    if size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {size} tokens and the embedding {config.vocab_size}: they do not belong together.",
            where=str(where),
        )


def licence_of(kept: Mapping[str, str]) -> str | None:
    """The licence that the model card's front matter states."""
    card = kept.get("README.md", "")
    front = re.match(r"\s*---\s*\n(.*?)\n---\s*\n", card, re.DOTALL)
    stated = re.search(r"^licen[sc]e:\s*[\"']?([^\s\"'#]+)", front[1], re.MULTILINE) if front else None
    return stated[1] if stated else None


def finite(tensor: Tensor, name: str, where: str) -> Tensor:
    """The tensor. Raises InputError where a number in it is not finite."""
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} has numbers that are not finite: the file is damaged.", where=where)
    return tensor


class _Table:
    """Tensors of ours in files of theirs."""

    def __init__(
        self, family: Family, config: ModelConfig, files: SafetensorsFiles, directory: Path, *, heads: bool
    ) -> None:
        self.config, self.files, self.directory = config, files, directory
        shapes = shapes_of(config)
        self.shapes = shapes
        try:
            entries = entries_of(family.entries, config, list(shapes))
        except KeyError as missing:  # a family whose table has no place for an option of its own
            raise UnsupportedError(f"{missing} has no place in a {family.name}.", where=str(directory)) from missing
        names = _names(files.specs, family)
        self.places: dict[str, tuple[Entry, int, str]] = {}
        absent = []
        for entry in entries:
            if entry.theirs in names:
                self.places |= {name: (entry, part, names[entry.theirs]) for part, name in enumerate(entry.ours)}
            elif not (family.may_lack and all(name.startswith(family.may_lack) for name in entry.ours)):
                absent.append(entry.theirs)
        _refuse(absent, _unexpected(names, entries, family, config), directory)
        drawn = sorted(name for name in set(shapes) - set(self.places) if not name.startswith(HEADS) or heads)
        if drawn:
            note(f"{directory}: {', '.join(drawn)}: not in these files, and drawn anew")
        self.specs = {name: Spec(self._dtype(name), shape) for name, shape in shapes.items()}

    def read(self, name: str) -> Tensor:
        """A tensor of ours. Raises InputError where its shape does not fit, or a number is not finite."""
        wanted = self.shapes[name]
        if name not in self.places:
            whole = tuple(slice(0, size) for size in wanted)
            return initial_value(self.config, name, torch.Size(wanted), whole, seed=0)
        entry, part, theirs = self.places[name]
        found = self.files.read(theirs)
        try:
            tensor = ours_from(entry, part, found, self.config).to(self._dtype(name))
        except (ValueError, RuntimeError, IndexError) as error:
            raise self._misfit(theirs, found, name) from error
        if tuple(tensor.shape) != wanted:
            raise self._misfit(theirs, found, name)
        return finite(tensor, theirs, str(self.directory))

    def _dtype(self, name: str) -> torch.dtype:
        if name not in self.places:
            return torch.float32
        kind = self.files.specs[self.places[name][2]].dtype
        return kind if kind in (torch.float16, torch.bfloat16) else torch.float32

    def _misfit(self, theirs: str, found: Tensor, name: str) -> InputError:
        return InputError(
            f"{shorten(theirs)} is {tuple(found.shape)}, which does not give {name} of {self.shapes[name]}: the "
            f"weights do not fit {CONFIG}.",
            where=str(self.directory),
        )


def _family(told: Mapping[str, Any], path: Path, *, heads: bool) -> Family:
    kind, classes = told.get("model_type"), told.get("architectures") or []
    family = BY_NAME.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise UnsupportedError(
            f"{shorten(str(kind))} is not a family that can be imported; known are {', '.join(BY_NAME)}.",
            where=f"{path}: model_type",
        )
    if not heads:
        bare = {re.sub(r"(For[A-Z]\w*|LMHeadModel)$", "Model", name) for name in family.architectures}
        family = replace(
            family,
            architectures=(*family.architectures, *sorted(bare)),
            may_lack=(*family.may_lack, *HEADS),
            base_prefix=family.base_prefix or "bert.",
        )
    if classes and not set(map(str, classes)) & set(family.architectures):
        raise UnsupportedError(
            f"{shorten(str(classes[0]))} cannot be imported, but {' or '.join(family.architectures)}.",
            where=f"{path}: architectures",
        )
    return family


def _names(specs: Mapping[str, Spec], family: Family) -> dict[str, str]:
    """The names in the files by today's names."""
    bare = bool(family.base_prefix) and not any(name.startswith(family.base_prefix) for name in specs)
    found = {}
    for name in specs:
        modern = name
        for old, new in _RENAMED.items():
            modern = modern.removesuffix(old) + new if modern.endswith(old) else modern
        if bare and not any(modern == entry.theirs for entry in family.entries):
            modern = f"{family.base_prefix}{modern}"
        found[modern] = name
    return found


def _unexpected(names: Mapping[str, str], entries: Sequence[Entry], family: Family, config: ModelConfig) -> list[str]:
    """Tensors in the files that the model has no place for; a tied projection may be there a second time."""
    known = {entry.theirs for entry in entries}
    tied = (
        {entry.theirs for entry in family.entries if entry.ours == ("output.weight",)} if config.tie_embeddings else ()
    )
    return [
        names[name]
        for name in names
        if name not in known and name not in tied and not any(re.fullmatch(each, name) for each in family.unused)
    ]


def _refuse(absent: list[str], unexpected: list[str], directory: Path) -> None:
    said = [f"{shorten(name)} is missing" for name in absent[:3]]
    said += [f"{shorten(name)} is unknown" for name in unexpected[: 3 - len(said)]]
    if said:
        count = len(absent) + len(unexpected) - len(said)
        more = f" (and {count} more)" if count else ""
        raise InputError(f"the weights do not fit {CONFIG}: {'; '.join(said)}{more}.", where=str(directory))


def _kept(directory: Path) -> dict[str, str]:
    found = {}
    for pattern in _KEPT:
        for path in sorted(directory.glob(pattern)):
            if path.is_file() and path.stat().st_size <= _KEPT_BYTES:
                found[path.name] = read_bytes(path).decode(errors="replace")
    return found
