"""A model of another program, read and not yet written: the result of `huggingface.open_directory` and `gguf_model`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from megalith.recipe import ModelConfig
from megalith.tokens import Conventions
from megalith.training.checkpoint.tensors import Spec


@dataclass(frozen=True)
class Source:
    """A model in another program's files, checked; its tensors are read one at a time."""

    family: str
    """The other program's name of it."""
    config: ModelConfig
    specs: Mapping[str, Spec]
    """Every tensor of ours, in the type in which it will be kept."""
    tensor: Callable[[str], Tensor]
    """A tensor of ours by its name. Raises InputError where it cannot be read, or is not finite."""
    tokenizer: str
    """The content of `tokenizer.json`."""
    conventions: Conventions
    files: tuple[Path, ...]
    """All that was read, in a fixed order."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Small files that are kept as they are, by name: licence, model card, configuration."""
    licence: str | None = None
