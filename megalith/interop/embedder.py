"""The embedder of a model wherever it comes from: one of ours, a Hugging Face directory, a GGUF file.

Heads are not wanted here, so bare encoders and decoders (`BertModel`, `LlamaModel`) are read too.
"""

from pathlib import Path

import tokenizers
import torch

from megalith.artifacts import file_digest
from megalith.artifacts.checkpoints import is_checkpoint
from megalith.errors import InputError
from megalith.inference.embedder import Embedder, load_embedder
from megalith.input_files import read_json
from megalith.interop.gguf_model import open_gguf
from megalith.interop.huggingface import HEADS, open_directory
from megalith.interop.source import Source
from megalith.model import MODELS
from megalith.tokens import Tokenizer


def open_embedder(path: Path) -> Embedder:
    """Read the model at `path`.

    Raises InputError where it is missing, damaged or lacks its tokenizer, UnsupportedError for a family or a key of its
    configuration that cannot be held.
    """
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError("this is neither a directory nor a .gguf file.", where=str(path))
        return _embedder(open_gguf(path))
    if _is_theirs(path):
        return _embedder(open_directory(path, heads=False))
    return load_embedder(path)


def _is_theirs(directory: Path) -> bool:
    """Whether config.json is one of transformers' and not one of ours."""
    if is_checkpoint(directory) or not (directory / "config.json").is_file():
        return False
    told = read_json(directory / "config.json")
    return isinstance(told, dict) and "model_type" in told


def _embedder(source: Source) -> Embedder:
    with torch.device("meta"):
        model = MODELS[source.config.family](source.config)
    weights = {name: source.tensor(name).float() for name in source.specs if not name.startswith(HEADS)}
    model.load_state_dict(weights, strict=False, assign=True)
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(source.tokenizer), source.conventions)
    return Embedder(model.eval(), tokenizer, {file.name: file_digest(file) for file in source.files})
