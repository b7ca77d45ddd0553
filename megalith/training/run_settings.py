"""The settings of a run as its artifact's key has them, those that are only recorded, and the digest that names a run.

Which is which is said by the table of `recipe.changes`.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megalith.artifacts import LOGS
from megalith.artifacts.checkpoints import TASK
from megalith.artifacts.request import STAGE_VERSION
from megalith.errors import InputError
from megalith.input_files import read_json
from megalith.recipe import Recipe
from megalith.recipe.changes import LAYOUT_OF_DROPOUT, change_of
from megalith.training.initial_weights import WHERE

VERSION = 2
VERSION_WITH_DROPOUT = 3  # since it is drawn by sample
_NAMED = {"micro_batch_size", "compile", "validation_interval", "validation_sequences"}
"""Settings that a run is resumed with and that its manifest records."""


def settings_of(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that make this run another one, and those that are only recorded, by dotted key.

    Layout and micro-batch change no more than rounding, so that a run may be taken up in another layout; with dropout
    the tensor axis chooses what is dropped.
    """
    train, parallel = recipe.train.model_dump(mode="json"), recipe.parallel.model_dump(mode="json")
    settings: dict[str, Any] = {
        "model": recipe.model.model_dump(mode="json"),
        "train": {name: value for name, value in train.items() if change_of(f"train.{name}").effect != "resume"},
        "version": VERSION_WITH_DROPOUT if recipe.model.dropout else VERSION,
        **({"blend": recipe.mixture.shares} if recipe.mixture.datasets else {}),
    }
    recorded = {f"train.{name}": train[name] for name in sorted(_NAMED)}
    if recipe.train.weights_from is not None:
        recorded[WHERE] = recipe.train.weights_from
    recorded |= {f"parallel.{name}": value for name, value in parallel.items()}
    if recipe.model.dropout:
        settings["parallel"] = {key.removeprefix("parallel."): recorded.pop(key) for key in LAYOUT_OF_DROPOUT}
    return settings, recorded


def run_of(workspace: Path, settings: dict[str, Any], *depends_on: object) -> str:
    """The digest that names a run in its checkpoints: the one that its workspace was begun with, or else a new one."""
    begun = workspace / LOGS / TASK
    if begun.is_file():
        try:
            told = read_json(begun)
            return str(told["run"])
        except (InputError, KeyError, TypeError):
            pass  # cut short by a kill: the same digest is made again
    train = settings["train"] | {"compile": False}  # which was part of it once
    return hashlib.sha256(json.dumps([settings | {"train": train}, *depends_on], sort_keys=True).encode()).hexdigest()


def mend_of(changes: Sequence[str], *, dropout: bool, aside: str) -> str | None:
    """The mend of changed settings, by their keys, that are refused; None where a branch cannot take them."""
    named = [key for key in changes if key != STAGE_VERSION or "model.dropout" not in changes]  # which has its own
    if any(change_of(key, dropout=dropout).effect == "refuse" for key in named):
        return None
    return (
        "Set it back; or pass --branch STEP, which goes on from the checkpoint of that step with the change, in a "
        f"directory of its own; or --fresh, which keeps the old one as {aside}."
    )
