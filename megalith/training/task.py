"""The task of the processes that train, and the errors that they hand back: JSON files under `logs/`."""

import json
import shutil
import traceback
from pathlib import Path
from typing import Any

import pydantic
import torch
from pydantic import BaseModel, ConfigDict

from megalith.artifacts import LOGS, whole
from megalith.artifacts.checkpoints import TASK
from megalith.console import note
from megalith.errors import InputError, MegalithError, error_from_json, error_to_json
from megalith.kernels import choose, using
from megalith.recipe import Recipe

ERROR = "error.json"
HANG = "hang"
"""The directory in which ranks say what they wait for."""
MEASURED = "measured.json"
KERNELS = "kernels.json"
_FIRST = ".first-error"  # made by the rank that fails first


class Trunk(BaseModel):
    """The checkpoint that a branch begins from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path
    run: str
    step: int
    tokens: int
    digest: str
    """SHA-256 of the checkpoint's state.json, which names those of its other files."""
    changes: dict[str, tuple[Any, Any]] = {}
    """The settings that the branch changes, by key: the trunk's value and its own."""
    data_from: int = 0
    """The sample of the whole run from which the data, or the shares in which they are read, are what they are now."""
    drawn: dict[str, int] = {}
    """Samples of each data set that were read before that."""


class TrainTask(BaseModel):
    """One training run, as each of its processes gets it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    """Sized, with tokens, micro-batch, precision and layout filled in."""
    tokens: Path
    """The tokenize artifact."""
    workspace: Path
    run: str
    """Digest of settings, tokens and seed: a checkpoint of another run is not taken up."""
    threads: int
    """CPU threads of each process."""
    kernels: dict[str, str] = {}
    """The implementation of each operation, as `megalith.kernels.use` takes it."""
    peak_flops_per_second: float | None
    predicted: dict[str, float] = {}
    """The plan's step_seconds and memory_bytes."""
    corpus: Path | None = None
    """The curate artifact whose tasks may be scored in training."""
    trunk: Trunk | None = None
    """The checkpoint that it begins from, where it is a branch."""
    event: dict[str, Any] | None = None
    """For the history: why it is taken up again."""

    @property
    def logs(self) -> Path:
        return self.workspace / LOGS

    @property
    def store(self) -> Path:
        """The file in which ranks on one machine meet."""
        return self.logs / ".store"

    @property
    def data_from(self) -> int:
        """The first sample of the data, or of the shares in which they are read."""
        return self.trunk.data_from if self.trunk else 0

    @property
    def drawn(self) -> dict[str, int]:
        """Samples of each data set that are not read again."""
        return self.trunk.drawn if self.trunk else {}

    @property
    def checkpoints(self) -> Path:
        return self.workspace / "checkpoints"


def write_task(task: TrainTask) -> Path:
    """Write the task where its processes, `export` and a branch look for it."""
    path = task.logs / TASK
    with whole(path) as temporary:
        temporary.write_text(task.model_dump_json())
    return path


def kernels_of_run(workspace: Path, threads: int) -> dict[str, str]:
    """The implementation of each operation in this run: chosen for the processor, kept when the run is resumed.

    Rank 0 asks first, and leaves the file for all ranks. A GPU uses torch's own.
    """
    if torch.cuda.is_available():
        return {}
    path = workspace / LOGS / KERNELS
    if path.is_file():
        try:
            kept = pydantic.TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
            with using(kept):
                return kept
        except (ValueError, InputError):
            note(f"{path} is damaged or of another version: the kernels are chosen anew, and the last bits may change.")
    choice = choose(threads)
    path.parent.mkdir(exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(json.dumps(choice, indent=1))
    return choice


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The run was asked to stop, and has saved its state."""


def write_error(task: TrainTask, rank: int, error: BaseException) -> bool:
    """Leave an error for the process that started this one; False if another rank has left one before.

    The first rank to fail brings the others down after it, with errors that only say so: the first error counts.
    Raises OSError where the disk is too full for it.
    """
    try:
        (task.logs / _FIRST).touch(exist_ok=False)
    except FileExistsError:
        return False
    said: dict[str, Any] = {"rank": rank}
    if isinstance(error, MegalithError):
        said |= error_to_json(error)
    else:
        said |= {"what": f"{type(error).__name__}: {error}", "traceback": traceback.format_exception(error)}
    with whole(task.logs / ERROR) as temporary:
        temporary.write_text(json.dumps(said))
    return True


def read_error(task: TrainTask) -> MegalithError | None:
    """The error that a process of this task has left; an unforeseen one is shown with its traceback."""
    path = task.logs / ERROR
    if not path.is_file():
        return None
    said: dict[str, Any] = json.loads(path.read_text())
    if "kind" in said:
        return error_from_json(said)
    note("".join(said["traceback"]))
    return MegalithError(
        f"rank {said['rank']} has failed: {said['what']}",
        mend="Its traceback stands above. The same command goes on from the last checkpoint.",
    )


def forget_errors(task: TrainTask) -> None:
    """Remove the errors of an earlier attempt."""
    for name in (ERROR, _FIRST):
        (task.logs / name).unlink(missing_ok=True)
    shutil.rmtree(task.logs / HANG, ignore_errors=True)
