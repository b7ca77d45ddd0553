"""What a checkpoint is of, and `state.json`, which makes a directory of shards into a checkpoint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from torch import Tensor

STATE = "state.json"
FORMAT = 1
HISTORY = ("steps", "validation")
"""The fields of Progress that are lists which only grow. They are kept beside the checkpoints, not within."""

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

    @property
    def history(self) -> dict[str, Any]:
        """What `history.json` holds."""
        return {"steps": self.steps, "validation": self.validation}


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
    """What else is one for the whole run, as JSON: optimizer steps, loss scale. The first rank's is written."""


class Written(BaseModel):
    """A file, or the first bytes of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Sealed(BaseModel):
    """What `state.json` holds."""

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
    """What `seal` was given; None if any of it has changed, or if it was written by another version."""
    try:
        said = json.loads(content)
        if said["sha256"] != _digest(said["sealed"]):
            return None
        sealed = Sealed.model_validate(said["sealed"])
        Progress.model_validate(sealed.progress)
    except (ValueError, TypeError, KeyError):  # no JSON, or of another form
        return None
    return sealed if sealed.format == FORMAT else None


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
