"""Checkpoints: directories of safetensors and JSON that are whole or absent. Nothing is ever unpickled.

`step-XXXXXXXX/` holds `model.safetensors`, `optimizer.safetensors` and `state.json`; the last names the SHA-256 of the
other two. It is written beside, flushed to disk and renamed, so a kill at any moment leaves the older ones standing.
Equal states give equal bytes.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from megalith.artifacts import file_digest
from megalith.console import note

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
_UNFINISHED = ".unfinished"


class Progress(BaseModel):
    """How far a run has come."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    run: str
    """Digest of what the run depends on."""
    step: int = 0
    tokens: int = 0
    samples: int = 0
    skipped_steps: int = 0
    """Steps whose loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    steps: list[dict[str, Any]] = []
    """`history.json`, so far."""
    validation: list[dict[str, Any]] = []

    @property
    def history(self) -> dict[str, Any]:
        """What `history.json` holds."""
        return {"steps": self.steps, "validation": self.validation}


class _State(BaseModel):
    """What `state.json` holds."""

    model_config = ConfigDict(extra="forbid")

    progress: Progress
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read."""

    path: Path
    progress: Progress
    model: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Tensor] = field(repr=False)


def save(directory: Path, progress: Progress, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> Path:
    """Write the checkpoint of `progress.step` into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"step-{progress.step:08d}"
    unfinished = target.with_suffix(_UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        save_file(dict(model), unfinished / MODEL)
        save_file(dict(optimizer), unfinished / OPTIMIZER)
        state = _State(progress=progress, files={name: file_digest(unfinished / name) for name in (MODEL, OPTIMIZER)})
        (unfinished / STATE).write_text(json.dumps(state.model_dump(), sort_keys=True) + "\n")
        for path in (*unfinished.iterdir(), unfinished):
            _flush(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # a full disk, say
        raise
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    _flush(directory)
    return target


def newest(directory: Path, run: str) -> Checkpoint | None:
    """The newest whole checkpoint of this run; damaged ones are passed over, with a word to the user."""
    for path in _standing(directory):
        checkpoint = _read(path)
        if checkpoint is not None and checkpoint.progress.run == run:
            return checkpoint
        note(f"{path}: this checkpoint is damaged or of another run; the one before it is taken.")
    return None


def prune(directory: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what a killed save left."""
    for path in [*_standing(directory)[keep:], *directory.glob(f"*{_UNFINISHED}")]:
        shutil.rmtree(path)


def _standing(directory: Path) -> list[Path]:
    """The checkpoints in `directory`, newest first."""
    return sorted((path for path in directory.glob("step-*") if path.suffix != _UNFINISHED), reverse=True)


def _read(path: Path) -> Checkpoint | None:
    try:
        state = _State.model_validate_json((path / STATE).read_text())
        if any(file_digest(path / name) != digest for name, digest in state.files.items()):
            return None
        return Checkpoint(path, state.progress, load_file(path / MODEL), load_file(path / OPTIMIZER))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
