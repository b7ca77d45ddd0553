"""`train.from`: the weights of a finished model in place of drawn ones, read piece by piece, on any layout."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from megalith.artifacts.checkpoints import Described, described, is_checkpoint
from megalith.errors import InputError, RecipeError
from megalith.inference import model_digests
from megalith.inference.sharded import ShardedWeights
from megalith.input_files import read_json
from megalith.model import MODELS
from megalith.parallel import FirstValue
from megalith.recipe import ModelConfig, Recipe

WHERE = "train.from"
ReadPart = Callable[[str, Sequence[slice]], Tensor]
_MAY_DIFFER = ("dropout", "init_std", "vocab_multiple")
"""Fields that change no weight, or only how many rows of padding there are."""


def origin_of(recipe: Recipe) -> Path | None:
    """The model's directory, or the checkpoint, that a run begins from; None where its weights are drawn."""
    if recipe.train.weights_from is None:
        return None
    path = Path(recipe.train.weights_from)
    if is_checkpoint(path):
        return path
    return path / "model" if (path / "model" / "config.json").is_file() else path


def check_origin(recipe: Recipe, tokens: Path) -> dict[str, str]:
    """The digests of the files that a run begins from, by name; none where its weights are drawn.

    Raises InputError where the model is missing or damaged, or the tokens were made with another tokenizer; RecipeError
    where the recipe's model is another one.
    """
    home = origin_of(recipe)
    if home is None:
        return {}
    if recipe.train.from_optimizer and not is_checkpoint(home):
        raise RecipeError(
            "a finished model has no optimizer's state.",
            where=f"train.from_optimizer: {home}",
            mend="Set train.from to a checkpoint, such as runs/NAME/train/checkpoints/step-00001000.",
        )
    digests = {f"from/{name}": digest for name, digest in model_digests(home).items()}
    try:
        told = described(home) if is_checkpoint(home) else Described(read_json(home / "config.json"), home)
        made = ModelConfig.model_validate(told.config)
    except ValidationError as error:
        raise InputError("this is not a model's configuration as Megalith writes it.", where=str(home)) from error
    asked = recipe.model
    differing = [
        f"{name} is {_shown(asked, name)} and was {_shown(made, name)}"
        for name in ModelConfig.model_fields
        if name not in _MAY_DIFFER and _resolved(asked, name) != _resolved(made, name)
    ]
    longer = asked.positions == "rotary" and all(each.startswith("sequence_length") for each in differing)
    if differing and not longer:
        raise RecipeError(
            f"the model there is another one: {'; '.join(differing[:4])}.",
            where=WHERE,
            mend=f"Set `model` as the run in {home} has it.",
        )
    check_tokenizer(told.tokenizer / "tokenizer.json", tokens / "tokenizer.json")
    return digests


def open_weights(recipe: Recipe) -> FirstValue | None:
    """A function that reads a part of a parameter in fp32; None where weights are drawn."""
    home = origin_of(recipe)
    if home is None:
        return None
    read: ReadPart
    if is_checkpoint(home):
        weights = ShardedWeights(home)
        file, read, held = home, weights.read, weights.shapes
    else:
        file = home / "model.safetensors"
        read, held = _one_file(file)
    with torch.device("meta"):
        model = MODELS[recipe.model.family](recipe.model)
    for name, parameter in model.named_parameters():
        if name not in held:
            raise InputError(f"{name} is missing.", where=str(file))
        if held[name][1:] != tuple(parameter.shape)[1:]:
            raise InputError(f"{name} is {held[name]}, and {tuple(parameter.shape)} is wanted.", where=str(file))
    return _padded(read, held)


def _one_file(file: Path) -> tuple[ReadPart, dict[str, tuple[int, ...]]]:
    """A function that reads a part of a tensor in fp32, and the tensors' shapes."""
    try:
        content: Any = safe_open(file, framework="pt")
        held = {name: tuple(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"these weights cannot be read ({error}).", where=str(file)) from error

    def read(name: str, region: Sequence[slice]) -> Tensor:
        part: Tensor = content.get_slice(name)[tuple(region)]
        return part.float()

    return read, held


def _padded(read: ReadPart, held: dict[str, tuple[int, ...]]) -> FirstValue:
    """The first values, with rows of 0 where more rows of padding are asked for than are held."""

    def first_value(name: str, shape: torch.Size, region: tuple[slice, ...]) -> Tensor:
        rows = held[name][0]
        if rows >= shape[0]:
            return read(name, region)
        sizes = [place.stop - place.start for place in region]  # more rows of padding are asked for: they are 0
        padded = torch.zeros(sizes)
        last = min(region[0].stop, rows)
        if last > region[0].start:
            padded[: last - region[0].start] = read(name, (slice(region[0].start, last), *region[1:]))
        return padded

    return first_value


def check_tokenizer(ours: Path, theirs: Path) -> None:
    """Raise InputError where the tokens were made with another tokenizer than that of a model, if it has one."""
    if not theirs.is_file() or ours.read_bytes() == theirs.read_bytes():
        return
    one, other = (_vocabulary(path) for path in (ours, theirs))
    if one != other:
        raise InputError(
            "the tokens were made with another tokenizer than the model's.",
            where=str(theirs.parent),
            mend="Tokenize with train.from set, or name shards that were made with the model's tokenizer.",
        )


def _vocabulary(path: Path) -> object:
    told = read_json(path)
    return [told["model"].get("vocab"), told["model"].get("merges"), told.get("pre_tokenizer"), told.get("normalizer")]


def _resolved(config: ModelConfig, name: str) -> object:
    filled: dict[str, Callable[[], object]] = {
        "num_kv_heads": lambda: config.kv_heads,
        "head_size": lambda: config.head_dim,
        "ffn_hidden_size": lambda: config.ffn_hidden,
        "qkv_bias": lambda: config.has_qkv_bias,
    }
    return filled[name]() if name in filled else getattr(config, name)


def _shown(config: ModelConfig, name: str) -> str:
    value = _resolved(config, name)
    return json.dumps(value.model_dump(mode="json") if hasattr(value, "model_dump") else value)
