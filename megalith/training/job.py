"""What the stage hands to the processes that train, and what it gets back: JSON files under `logs/`."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from megalith import errors
from megalith.errors import MegalithError
from megalith.recipe import Recipe

ERROR = "error.json"
MEASURED = "measured.json"


class Job(BaseModel):
    """One training run, as each of its processes gets it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    """Sized, with tokens, micro-batch, precision and layout filled in."""
    tokens: Path
    """The tokenize artifact."""
    workspace: Path
    run: str
    """Digest of what the result depends on: a checkpoint of another run is not taken up."""
    threads: int
    """Of each process."""
    peak_flops_per_second: float | None

    @property
    def logs(self) -> Path:
        return self.workspace / "logs"

    @property
    def store(self) -> Path:
        """The file in which ranks on one machine meet."""
        return self.logs / ".store"

    @property
    def checkpoints(self) -> Path:
        return self.workspace / "checkpoints"


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The run was asked to stop, and has saved its state."""


def write_error(job: Job, error: MegalithError) -> None:
    """Leave an error for the process that started this one."""
    said = {
        "kind": type(error).__name__, "what": error.what, "where": error.where, "mend": error.mend
    }  # fmt: skip
    temporary = job.logs / f".{ERROR}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(said))
    temporary.replace(job.logs / ERROR)


def read_error(job: Job) -> MegalithError | None:
    """The error that a process of this job has left."""
    path = job.logs / ERROR
    if not path.is_file():
        return None
    said: dict[str, Any] = json.loads(path.read_text())
    kind: type[MegalithError] = getattr(errors, said["kind"])
    return kind(said["what"], where=said["where"], mend=said["mend"])
