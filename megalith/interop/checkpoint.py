"""A model of ours to hand out: a train or import artifact, its `model` directory, or a checkpoint still in shards."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from megalith.artifacts import MANIFEST, check_part, file_digest, read_manifest
from megalith.artifacts.checkpoints import described, is_checkpoint
from megalith.artifacts.manifest import json_digest
from megalith.errors import InputError
from megalith.input_files import read_json, real_path
from megalith.interop.safetensors_files import WEIGHTS, SafetensorsFiles
from megalith.recipe import ModelConfig
from megalith.tokens import GENERATION, Tokenizer, load_tokenizer
from megalith.training import checkpoint
from megalith.training.checkpoint.files import standing
from megalith.training.checkpoint.tensors import Spec


@dataclass(frozen=True)
class Checkpoint:
    """A model of ours, whose tensors are read one at a time."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    specs: Mapping[str, Spec]
    tensor: Callable[[str], Tensor]
    digest: str
    """The digest of weights, shape and tokenizer."""
    home: Path
    """The artifact, or the directory that was named."""
    step: int | None = None
    """The step of a checkpoint in shards."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a model of ours. Raises InputError where there is none, or a file of it is missing or damaged."""
    if is_checkpoint(path):
        return _in_shards(path)
    for home in (path / "model", path):
        if (home / WEIGHTS).is_file() and (home / "config.json").is_file():
            return _finished(home, path if home != path else _artifact(home))
    steps = standing(path / "checkpoints")
    if steps:
        return _in_shards(path / "checkpoints" / str(steps[0]))
    raise InputError(
        "there is no model here.",
        where=str(path),
        mend="Pass a train or import artifact, its model directory, or checkpoints/step-XXXXXXXX of a run.",
    )


def _finished(model: Path, home: Path) -> Checkpoint:
    check_part(model)
    files = SafetensorsFiles(model)
    names = ("config.json", "tokenizer.json", GENERATION)
    small = [model / name for name in names if (model / name).is_file()]
    digests = {file.name: file_digest(file) for file in (*files.files, *small)}
    return Checkpoint(
        name=_name(home),
        config=_config(read_json(model / "config.json"), model),
        tokenizer=load_tokenizer(model),
        specs=files.specs,
        tensor=files.read,
        digest=json_digest(digests),
        home=home,
    )


def _in_shards(path: Path) -> Checkpoint:
    """A step's directory; shape and tokenizer are the run's, beside it or in its task."""
    found = checkpoint.open_step(path)
    home, told = path.parent.parent, described(path)
    specs, tensor = checkpoint.model_tensors(found)
    config = _config(told.config, path)
    state = file_digest(path / "state.json")
    return Checkpoint(
        name=_name(home),
        config=config,
        tokenizer=load_tokenizer(told.tokenizer),
        specs=specs,
        tensor=tensor,
        digest=json_digest({"state.json": state, "config": config.model_dump(mode="json")}),
        home=home,
        step=found.progress.step,
    )


def _config(told: Any, where: Path) -> ModelConfig:
    try:
        config = ModelConfig.model_validate(told)
    except ValidationError as error:
        raise InputError("this is not a model's configuration as Megalith writes it.", where=str(where)) from error
    if not config.is_sized:
        raise InputError("this model has no shape.", where=str(where))
    return config


def _artifact(model: Path) -> Path:
    """The artifact that a `model` directory is part of, or the directory itself."""
    parent = model.absolute().parent
    return parent if (parent / MANIFEST).is_file() else model


def _name(home: Path) -> str:
    """The expedition's name, or the directory's."""
    place = real_path(home)
    stage = place.name.strip(".").removesuffix(".partial")
    return place.parent.name if stage in ("train", "model") else place.name


def facts_of(home: Path) -> tuple[str, dict[str, Any]]:
    """Stage and facts of the artifact that a model came from, or nothing."""
    if not (home / MANIFEST).is_file():
        return "", {}
    manifest = read_manifest(home)
    return manifest.stage, json.loads(json.dumps(manifest.facts))
