"""One training process, started by our launcher, by torchrun or by srun."""

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import torch

from megalith.console import note
from megalith.errors import MegalithError, ResourceError
from megalith.kernels import use
from megalith.parallel import Mesh, init_process_group
from megalith.processes import die_with
from megalith.system_limits import limit_reached
from megalith.training import loop
from megalith.training.device import set_up, settle_allocator
from megalith.training.hangs import GiveUp
from megalith.training.task import MEASURED, Stopped, TrainTask, write_error

STOPPED = 128 + signal.SIGTERM
NO_ROOM = {os.EX_IOERR: errno.ENOSPC, os.EX_CANTCREAT: errno.EFBIG}
"""Exit codes of a rank that could not write its error down, and the system's error number of each."""


def main(task_file: str, parent: str) -> int:
    """Train this rank's share; returns the exit code."""
    die_with(int(parent))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # standard output is the caller's
    stay_on_this_machine()
    threading.excepthook = _say_of_a_thread
    settle_allocator()
    task = TrainTask.model_validate_json(Path(task_file).read_text())
    try:
        work(task, init_process_group(task.store))
    except Stopped:
        return STOPPED
    except Exception as error:  # noqa: BLE001 - the process that started this one tells it
        told = in_words(task, error)
        try:
            write_error(task, int(os.environ["RANK"]), told)
        except OSError as unwritten:
            note(str(told))
            return next((code for code, number in NO_ROOM.items() if number == unwritten.errno), 1)
        return 1
    return 0


def _say_of_a_thread(failed: threading.ExceptHookArgs) -> None:
    """Print a thread's traceback, as Python does, unless the training itself will tell of a limit."""
    if failed.exc_value is None or limit_reached(failed.exc_value) is None:
        threading.__excepthook__(failed)


def work(task: TrainTask, ranks: Mesh, give_up: GiveUp | None = None) -> None:
    """Train; the leading rank writes the measurements to `logs/`. Raises Stopped after SIGTERM or SIGINT.

    `give_up` ends the process where ranks hang: by default the error is left for the process that started this one.
    """
    torch.set_num_threads(task.threads)
    use(task.kernels)
    set_up(task.recipe, ranks.device)
    stop = _Stop()
    measured = loop.run(task, ranks, lambda: stop.asked, give_up)
    if ranks.is_rank_zero:
        (task.logs / MEASURED).write_text(json.dumps(measured))


def stay_on_this_machine() -> None:
    """Have gloo's connections go over the loopback: it would look up this machine's name otherwise."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def in_words(task: TrainTask, error: Exception) -> Exception:
    """The error as one of Megalith's if it tells of a limit of the machine, else the error itself."""
    return error if isinstance(error, MegalithError) else _out_of_resources(task, error) or error


def _out_of_resources(task: TrainTask, error: Exception) -> ResourceError | None:
    """The error in words, if it says that disk, memory or another resource has run out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return ResourceError(
            "the memory is not enough for this model and batch.",
            where="train.micro_batch_size",
            mend=f"Set less than {task.recipe.train.micro_batch_size}, or a smaller model.",
        )
    return limit_reached(error, str(task.workspace))


class _Stop:
    """Remembers that somebody asked this process to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # the last by Slurm's --signal, as sites set it
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
