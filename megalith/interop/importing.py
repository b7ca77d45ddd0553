"""`megalith import`: another program's model as an artifact, which generates, is judged, and is trained further.

`model/` holds what a train artifact's does, with `generation.json` beside it; `source/` the files that say where it
comes from: licence, model card, the configuration as it was. Tensors pass through one at a time.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from megalith.arithmetic import parameters
from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.artifacts.manifest import json_digest
from megalith.errors import InputError
from megalith.input_files import real_path
from megalith.interop.gguf_model import open_gguf
from megalith.interop.huggingface import open_directory
from megalith.interop.source import Source
from megalith.recipe import ModelConfig
from megalith.training.checkpoint.tensors import write_tensors

VERSION = 1


def import_model(source: Path, path: Path) -> Artifact:
    """Read the Hugging Face directory or GGUF file `source` into an artifact at `path`.

    Raises InputError for files that are missing, damaged or do not belong together, UnsupportedError for a model that
    cannot be held, with the key that says so; then nothing stands at `path` that did not stand before.
    """
    model = _open(source)
    digests = {file.name: file_digest(file) for file in model.files}

    def build(workspace: Workspace) -> Mapping[str, Any]:
        with workspace.file("model/model.safetensors") as file:
            write_tensors(file, model.specs, model.tensor)
        workspace.write_json("model/config.json", model.config.model_dump(mode="json"))
        workspace.write_json("model/generation.json", model.conventions.model_dump(mode="json"))
        with workspace.file("recipe.yaml") as file:
            file.write_text(_recipe(source, model.config), encoding="utf-8")
        for name, content in {"model/tokenizer.json": model.tokenizer, **_named("source/", model.kept)}.items():
            with workspace.file(name) as file:
                file.write_text(content, encoding="utf-8")
        return {
            "family": model.family,
            "parameters": parameters(model.config).total,
            "licence": model.licence,
            "source": real_path(source).name,
            "source_files": digests,
        }

    return produce(
        path,
        stage="import",
        settings={"version": VERSION},
        inputs={"source": json_digest(digests)},
        seed=0,
        build=build,
        precious=True,
    )


def _open(source: Path) -> Source:
    if source.is_dir():
        return open_directory(source)
    if source.suffix == ".gguf":
        return open_gguf(source)
    if not source.exists():
        raise InputError("this is missing.", where=str(source), mend="Pass a Hugging Face directory or a .gguf file.")
    raise InputError(
        "this is neither a directory nor a .gguf file.",
        where=str(source),
        mend="Pass a directory with config.json, tokenizer.json and model.safetensors, or a .gguf file.",
    )


def _recipe(source: Path, config: ModelConfig) -> str:
    """A recipe that trains this shape further, with train.from and train.tokens yet to be said."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", real_path(source).stem).strip("-._") or "imported"
    told = {
        "name": name[:100],
        "about": "An imported model; set train.from to its artifact, and train.tokens.",
        "tokenize": {"vocab_size": config.vocab_size},
        "model": config.model_dump(mode="json", exclude_none=True),
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def _named(prefix: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}{name}": content for name, content in files.items()}
