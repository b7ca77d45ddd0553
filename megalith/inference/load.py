"""A model from disk: weights, shape and tokenizer, in safe formats only (nothing is unpickled)."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from megalith.artifacts import check_part, file_digest
from megalith.artifacts.checkpoints import STATE, described, is_checkpoint
from megalith.artifacts.manifest import json_digest
from megalith.errors import InputError
from megalith.inference.sharded import ShardedWeights
from megalith.input_files import read_json
from megalith.model import GPT, MODELS, Transformer
from megalith.recipe import ModelConfig
from megalith.storage import local_copy
from megalith.tokens import GENERATION, Tokenizer, load_tokenizer

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
MODEL = "model"


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in evaluation mode, with its tokenizer."""

    model: GPT
    """In evaluation mode."""
    config: ModelConfig
    tokenizer: Tokenizer
    token_bytes: tuple[int, ...]
    """Bytes of text of each token; empty where tokens do not keep all of the text."""


def load_model(directory: Path) -> LanguageModel:
    """Read the model in `directory`: a train artifact, its `model` directory, or a checkpoint of a run.

    Behind an address, that is a verified copy.

    Weights are held in fp32. Raises InputError where a file is missing or damaged (within a train artifact: is not what
    its manifest lists), where weights do not fit the shape in config.json, or where they are not finite.
    """
    model, tokenizer = load_weights(directory)
    if not isinstance(model, GPT):
        raise InputError("only a GPT model of a known shape can generate text and be scored.", where=str(directory))
    config = model.config
    return LanguageModel(model, config, tokenizer, tuple(map(len, tokenizer.token_bytes or ())))


def load_weights(directory: Path) -> tuple[Transformer, Tokenizer]:
    """Read a model of any family as `load_model` does, in evaluation mode, and its tokenizer."""
    if is_checkpoint(directory):
        told = described(directory)
        files = {WEIGHTS: directory / STATE}
        config, home = _checked(told.config, directory), told.tokenizer
        weights = ShardedWeights(directory)
        read = {name: weights.read(name) for name in weights.shapes}
    else:
        files = _model_files(directory)
        config, home = _read_config(files[CONFIG]), files[TOKENIZER]
        read = _read_weights(files[WEIGHTS])
    tokenizer = load_tokenizer(home)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"this tokenizer has {tokenizer.vocab_size} tokens, and the model's vocab_size is {config.vocab_size}: "
            "they do not belong together.",
            where=str(directory),
        )
    model = MODELS[config.family](config)
    _fill(model, read, files[WEIGHTS])
    return model.eval(), tokenizer


def at_precision(lm: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    """The same model with its weights, and what it computes, in `dtype`; the one that was given stays as it is."""
    if lm.model.output_weight.dtype == dtype:
        return lm
    model = copy.deepcopy(lm.model).to(dtype)
    model.activation_dtype = dtype
    return replace(lm, model=model)


def not_finite() -> InputError:
    """Return the error for a model whose logits are not finite."""
    return InputError(
        "the logits of this model are not finite: its training diverged.",
        where=WEIGHTS,
        mend="Train again with a lower train.learning_rate.",
    )


def model_digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the model's files, by name. Raises InputError if one is missing."""
    if is_checkpoint(directory):
        told = described(directory)
        digests = {WEIGHTS: file_digest(directory / STATE), CONFIG: json_digest(told.config)}
        beside = [told.tokenizer / name for name in (TOKENIZER, GENERATION)]
        return digests | {path.name: file_digest(path) for path in beside if path.is_file()}
    files = _model_files(directory)
    conventions = files[TOKENIZER].with_name(GENERATION)
    if conventions.is_file():
        files[GENERATION] = conventions
    return {name: file_digest(path) for name, path in files.items()}


def _model_files(directory: Path) -> dict[str, Path]:
    directory = local_copy(directory, MODEL)
    home = directory / "model" if (directory / "model" / CONFIG).is_file() else directory
    files = {name: home / name for name in (WEIGHTS, CONFIG, TOKENIZER)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise InputError(
            f"this is not a model: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            where=str(directory),
            mend=f"Pass a train artifact, or a directory with {WEIGHTS}, {CONFIG} and {TOKENIZER}.",
        )
    check_part(home)
    return files


def _read_config(path: Path) -> ModelConfig:
    return _checked(read_json(path, mend="Export or train the model again."), path)


def _checked(told: object, path: Path) -> ModelConfig:
    try:
        config = ModelConfig.model_validate(told)
    except ValidationError as error:
        raise InputError(
            "this is not a model's configuration as Megalith writes it, or it is damaged.",
            where=str(path),
            mend="Export or train the model again.",
        ) from error
    if not config.is_sized:
        raise InputError("this configuration leaves the model's shape open.", where=str(path))
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"these weights cannot be read: the file is cut short or damaged ({error}).",
            where=str(path),
            mend="Export or train the model again.",
        ) from error


def _fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy the weights into the model; a tied weight may be given once."""
    wanted = model.state_dict()
    given = {wanted[name].data_ptr() for name in weights if name in wanted}
    missing = [name for name, tensor in wanted.items() if name not in weights and tensor.data_ptr() not in given]
    other = [name for name in weights if name not in wanted]
    misfits = [
        f"{name} is {tuple(weights[name].shape)} and should be {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    complaints = misfits + [f"{name} is missing" for name in missing] + [f"{name} is unknown" for name in other]
    if complaints:
        more = f" (and {len(complaints) - 3} more)" if len(complaints) > 3 else ""
        raise InputError(
            f"the weights do not fit the shape in {CONFIG}: {'; '.join(complaints[:3])}{more}.", where=str(path)
        )
    broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(weights)} weights are not finite ({broken[0]}): the training diverged.",
            where=str(path),
            mend="Train again with a lower train.learning_rate.",
        )
    model.load_state_dict(weights, strict=False)
