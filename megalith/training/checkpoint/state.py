"""The state that a checkpoint holds, `state.json`, which makes a directory of shards into one, and the run's history.

The history stands beside the checkpoints in files of JSON lines that only grow: a run of a million steps would
otherwise write all of it again with every checkpoint. Each checkpoint says how many bytes of each file belong to it,
and their digest: a file that goes on after them is none the worse.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from torch import Tensor

from megalith.artifacts.checkpoints import STATE
from megalith.training.checkpoint.files import Written, standing, write_whole

FORMAT = 1
HISTORY = ("steps", "validation")
"""The fields of Progress that are lists which only grow."""

BESIDE = ("events", "evaluations")
"""Fields of Progress that are left out where they are empty."""

FileName = Annotated[str, StringConstraints(pattern=r"^(index\.json|shard-\d{5,}\.safetensors)$")]


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
    events: list[dict[str, Any]] = []
    """Whatever happened beside steps: a branch, a spike, a fault. Written where there is any."""
    evaluations: list[dict[str, Any]] = []
    """The rows of tasks scored in training. Written where there are any."""

    @property
    def history(self) -> dict[str, Any]:
        """The content of `history.json`."""
        told = {"steps": self.steps, "validation": self.validation}
        return told | {name: found for name in BESIDE if (found := getattr(self, name))}


@dataclass(frozen=True)
class State:
    """All that a run goes on from.

    Tensors go by global names. A plain tensor is the whole one, equal on every rank that holds its name; a DTensor is
    this rank's part of it. Ranks may hold different names (pipeline stages), and one name may be held by several.
    """

    progress: Progress
    model: Mapping[str, Tensor] = field(repr=False)
    optimizer: Mapping[str, Tensor] = field(repr=False)
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Further values of the whole run, as JSON: optimizer steps, loss scale. The first rank's are written."""


class Sealed(BaseModel):
    """The content of `state.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    progress: dict[str, Any]
    """Progress without its history."""
    history: dict[str, Written]
    """How much of each history file belongs to this checkpoint."""
    extras: dict[str, Any]
    files: dict[FileName, Written]


def seal(sealed: Sealed) -> bytes:
    """The content of `state.json`: what is sealed, and its digest."""
    values = sealed.model_dump()
    return json.dumps({"sealed": values, "sha256": _digest(values)}, sort_keys=True).encode() + b"\n"


def unseal(content: bytes) -> Sealed | None:
    """The value that `seal` was given; None if any of it has changed, or if another version wrote it."""
    try:
        said = json.loads(content)
        if said["sha256"] != _digest(said["sealed"]):
            return None
        sealed = Sealed.model_validate(said["sealed"])
        Progress.model_validate(sealed.progress)
    except (ValueError, TypeError, KeyError):  # no JSON, or of another form
        return None
    return sealed if sealed.format == FORMAT else None


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint was made outside of any streak of skipped steps; False where it cannot be read."""
    try:
        sealed = unseal((checkpoint / STATE).read_bytes())
    except OSError:
        return False
    return sealed is not None and sealed.progress["skipped_in_a_row"] == 0


def last_sound(directory: Path) -> int | None:
    """The step of the newest checkpoint outside of any streak of skipped steps; None where there is none."""
    return next((name.step for name in standing(directory) if is_sound(directory / str(name))), None)


def losses_by_step(progress: Progress) -> dict[int, float]:
    """The validation losses that are numbers, by step."""
    return {each["step"]: each["loss"] for each in progress.validation if math.isfinite(each["loss"] or math.nan)}


class History:
    """The writer of a run's history: it writes the files anew once, and then adds to them.

    `pending` belongs to the thread that trains, `write` to the one that saves; the one waits for the other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = dict.fromkeys(HISTORY, 0)
        self._ends = {name: (0, hashlib.sha256()) for name in HISTORY}

    def pending(self, progress: Progress) -> dict[str, list[bytes]]:
        """The lines of each file that have not been written."""
        return {name: [_line(record) for record in getattr(progress, name)[self._lines[name] :]] for name in HISTORY}

    def write(self, pending: Mapping[str, list[bytes]]) -> dict[str, Written]:
        """Add the lines, and return what each file holds by now. Raises OSError, and then has added none."""
        ends = {}
        for name, lines in pending.items():
            content = b"".join(lines)
            size, digest = self._ends[name]
            path = _path(self._directory, name)
            if size == 0:
                write_whole(path, content)
            elif content:
                _add(path, size, content)
            digest = digest.copy()
            digest.update(content)
            ends[name] = (size + len(content), digest)
        self._ends = ends
        for name, lines in pending.items():
            self._lines[name] += len(lines)
        return {name: Written(bytes=size, sha256=digest.hexdigest()) for name, (size, digest) in ends.items()}


def read_history(directory: Path, written: Mapping[str, Written]) -> dict[str, list[dict[str, Any]]] | None:
    """The records of the files when they were `written`; None if they have changed since."""
    history = {}
    for name in HISTORY:
        try:
            with _path(directory, name).open("rb") as file:
                content = file.read(written[name].bytes)
        except (OSError, KeyError):
            return None
        if hashlib.sha256(content).hexdigest() != written[name].sha256:
            return None
        history[name] = [json.loads(line) for line in content.splitlines()]
    return history


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.jsonl"


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _add(path: Path, size: int, content: bytes) -> None:
    """Write after the first `size` bytes, over what a failed attempt left: it had begun with the same lines."""
    with path.open("rb+") as file:
        file.seek(size)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
