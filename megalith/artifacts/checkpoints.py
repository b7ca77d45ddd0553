"""A checkpoint of a run as a model: its shape and its tokenizer stand with the run, two levels above it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.artifacts.manifest import LOGS
from megalith.errors import InputError
from megalith.input_files import read_json

STATE = "state.json"  # makes a directory of shards a checkpoint
TASK = "job.json"  # the run's task, in its logs


@dataclass(frozen=True)
class Described:
    """The shape and tokenizer of a checkpoint, which it does not hold itself."""

    config: Any
    """The model's shape, as JSON."""
    tokenizer: Path
    """The directory with tokenizer.json."""


def is_checkpoint(path: Path) -> bool:
    """Whether a directory holds a checkpoint of a run."""
    return (path / STATE).is_file()


def described(path: Path) -> Described:
    """The shape and the tokenizer of a checkpoint's model. Raises InputError where its run is not where it was."""
    home = path.absolute().parent.parent
    model, task = home / "model", home / LOGS / TASK
    if (model / "config.json").is_file():
        return Described(read_json(model / "config.json"), model)
    if task.is_file():
        said = read_json(task)
        return Described(said["recipe"]["model"], Path(said["tokens"]))
    raise InputError(
        "the shape of the model that this checkpoint is of is not known.",
        where=str(path),
        mend=f"Put it back where it was: two levels below model/config.json or {LOGS}/{TASK}.",
    )
