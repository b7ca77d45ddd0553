"""The processes that train: started on this machine as torchrun starts them, or found under torchrun or srun.

torch's `start_processes` starts the ranks; when one dies the others are ended, and it is said which. Each rank asks
the kernel to be killed with the process that started it, so that none outlives a `kill -9` of the command. The ranks
meet in a file: torchrun's agent would look up this machine's name, and a run on one machine opens no network, not even
for that.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, start_processes
from torch.distributed.elastic.multiprocessing.api import SubprocessContext

from megalith.artifacts import Artifact
from megalith.console import console, note, visible
from megalith.errors import MegalithError, ResourceError, UnsupportedError
from megalith.parallel import Mesh, init_process_group
from megalith.processes import wait_politely
from megalith.system_limits import limit_reached
from megalith.training import hangs, worker
from megalith.training.device import settle_allocator
from megalith.training.task import Stopped, TrainTask, forget_errors, read_error, write_error, write_task
from megalith.training.timeouts import WHILE_ONE_WORKS_SECONDS, set_timeout

POLL_SECONDS = 0.2
LEAVE_SECONDS = 5  # for the others, once a rank has failed
GRACE_SECONDS = 60  # for the last step and a checkpoint, when asked to stop
logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # which rank failed is told in words
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class LostRanksError(ResourceError):
    """Ranks were killed, or answer no more; the others are sound."""

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None, ranks: Sequence[int]) -> None:
        super().__init__(what, where=where, mend=mend)
        self.ranks = tuple(ranks)


def start(task: TrainTask, processes: int) -> None:
    """Train in `processes` new processes on this machine, and wait for them.

    Raises the MegalithError that a process raised; LostRanksError when some were killed or answer no more;
    ResourceError when one died of something else; SystemExit when this process was asked to end, after the state has
    been saved.
    """
    forget_errors(task)
    task.store.unlink(missing_ok=True)
    file = write_task(task)
    wait_politely()
    ranks = range(processes)
    with _own_signals():
        context = start_processes(
            name="train",
            entrypoint=sys.executable,
            args={rank: ("-m", "megalith.training", str(file), str(os.getpid())) for rank in ranks},
            envs={rank: {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} for rank in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=str(task.logs / "ranks")),
        )
        try:
            assert isinstance(context, SubprocessContext)  # of commands
            failed = _failed(context)
        except SignalException as stopped:
            context.close(stopped.sigval, GRACE_SECONDS)
            if stopped.sigval == signal.SIGINT:
                raise KeyboardInterrupt from stopped
            note(f"Training stopped by {stopped.sigval.name}; the same command takes it up again.")
            raise SystemExit(128 + stopped.sigval) from stopped
        finally:
            context.close()
            task.store.unlink(missing_ok=True)
    if failed:
        killed = [rank for rank, code in failed.items() if code < 0]  # what others say then only follows
        no_room = [rank for rank, code in failed.items() if code in worker.NO_ROOM]
        (first, *_) = [*killed, *no_room, *failed]
        error = (None if killed else read_error(task)) or _death(task, first, failed[first])
        lost = killed or hangs.silent(task, processes)
        raise LostRanksError(error.what, where=error.where, mend=error.mend, ranks=lost) if lost else error


def _failed(context: SubprocessContext) -> dict[int, int]:
    """Wait for the processes; the exit codes of those that had failed when that was seen, by rank.

    The others then get a moment to say why, and are killed: a rank that is stopped minds no other signal.
    """
    processes = [context.subprocess_handlers[rank].proc for rank in range(context.nprocs)]
    while True:
        codes = [process.poll() for process in processes]
        failed = {rank: code for rank, code in enumerate(codes) if code}
        if failed or None not in codes:
            break
        time.sleep(POLL_SECONDS)
    saves = all(code == worker.STOPPED for code in failed.values())
    end = time.monotonic() + (GRACE_SECONDS if saves else LEAVE_SECONDS)
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    context.close(signal.SIGKILL)
    return failed


def work_in_place(
    processes: int, lead: Callable[[Callable[[TrainTask], TrainTask]], Artifact], follow: Callable[[Path], TrainTask]
) -> Artifact | None:
    """Do this process's part of the work under torchrun or srun.

    Rank 0 makes the artifact with `lead`, and tells the others where its workspace is once the work begins; they do
    theirs with the task that `follow` makes of it, wait until the artifact stands, and return None.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count != processes:
        raise UnsupportedError(
            f"{count} processes have been started, and the recipe asks for {processes}.",
            where="parallel",
            mend=f"Start {processes} processes, or set a tensor × pipeline × data of {count}.",
        )
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        worker.stay_on_this_machine()
    settle_allocator()
    ranks = init_process_group()
    set_timeout(ranks, WHILE_ONE_WORKS_SECONDS)
    try:
        if ranks.is_rank_zero:
            return _lead(ranks, lead)
        _follow(ranks, follow)
    except Stopped as stopped:
        _wait_for_all(ranks)
        raise SystemExit(worker.STOPPED) from stopped
    return None


def _wait_for_all(ranks: Mesh) -> None:
    """Return when every rank is here: srun kills the others when the first one ends, also while rank 0 still copies."""
    ranks.sum(0.0)


def _lead(ranks: Mesh, lead: Callable[[Callable[[TrainTask], TrainTask]], Artifact]) -> Artifact:
    def train_together(task: TrainTask) -> TrainTask:
        forget_errors(task)
        write_task(task)
        _tell(ranks, str(task.workspace))
        _work(task, ranks)
        return task

    made = lead(train_together)
    _tell(ranks, None)
    return made


def _follow(ranks: Mesh, follow: Callable[[Path], TrainTask]) -> None:
    while (workspace := _hear()) is not None:
        _work(follow(Path(workspace)), ranks)


def _work(task: TrainTask, ranks: Mesh) -> None:
    """Train this rank's share. The first rank to fail raises its error; the others leave without a word."""
    try:
        worker.work(task, ranks, lambda error: _leave(task, ranks, error))
    except Stopped:
        raise
    except Exception as error:
        told = worker.in_words(task, error)
        if not _is_first(task, ranks.rank, told):
            raise SystemExit(1) from error
        raise told from None if told is error else error
    set_timeout(ranks, WHILE_ONE_WORKS_SECONDS)


def _leave(task: TrainTask, ranks: Mesh, error: MegalithError) -> NoReturn:
    """End a process whose main thread hangs, with the sentence where no other rank has said it."""
    if _is_first(task, ranks.rank, error):
        console.print(visible(f"megalith: {error}"), style="red", soft_wrap=not console.is_terminal)
        os._exit(2)
    os._exit(hangs.GAVE_UP)


def _is_first(task: TrainTask, rank: int, told: Exception) -> bool:
    try:
        return write_error(task, rank, told)
    except OSError:  # a full disk: better told twice than not at all
        return True


def _tell(ranks: Mesh, what: str | None) -> None:
    if ranks.count > 1:
        dist.broadcast_object_list([what], src=0)


def _hear() -> str | None:
    heard: list[str | None] = [None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]


def _death(task: TrainTask, rank: int, code: int) -> MegalithError:
    """The death of a rank in words."""
    if code == -signal.SIGKILL:
        return ResourceError(
            f"the training process of rank {rank} was killed (signal 9), as the system does when memory runs out.",
            mend="Set a smaller train.micro_batch_size or free some memory; the same command goes on from the last "
            "checkpoint.",
        )
    said = limit_reached(OSError(worker.NO_ROOM.get(code, 0), ""), str(task.workspace))
    if said is not None:
        return said
    if code == worker.STOPPED:
        return MegalithError(
            "the training processes were asked to stop, and have saved their state.",
            mend="The same command takes it up again.",
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return ResourceError(
        f"the training process of rank {rank} ended with {how}; what it said stands above.",
        mend="The same command goes on from the last checkpoint.",
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the signal handlers that start_processes replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
