"""The processes that train: started on this machine as torchrun starts them, or found under torchrun.

torch's `start_processes` watches the ranks: when one dies it ends the others and says which. Each rank asks the kernel
to be killed with the process that started it, so that none outlives a `kill -9` of the command. The ranks meet in a
file: torchrun's agent would look up this machine's name, and a run on one machine opens no network, not even for that.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, start_processes
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from megalith.console import note
from megalith.errors import MegalithError, ResourceError, UnsupportedError
from megalith.parallel import Ranks, join
from megalith.processes import wait_politely
from megalith.training import worker
from megalith.training.job import ERROR, Job, Stopped, read_error

JOB = "job.json"
POLL_SECONDS = 0.2
GRACE_SECONDS = 60  # for the last step and a checkpoint, when asked to stop
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def start(job: Job, processes: int) -> None:
    """Train in `processes` new processes on this machine, and wait for them.

    Raises the MegalithError that a process raised; ResourceError when one died of something else; SystemExit when this
    process was asked to end, after the state has been saved.
    """
    (job.logs / ERROR).unlink(missing_ok=True)
    job.store.unlink(missing_ok=True)
    file = job.logs / JOB
    file.write_text(job.model_dump_json())
    wait_politely()
    ranks = range(processes)
    with _own_signals():
        context = start_processes(
            name="train",
            entrypoint=sys.executable,
            args={rank: ("-m", "megalith.training", str(file), str(os.getpid())) for rank in ranks},
            envs={rank: {"RANK": str(rank), "WORLD_SIZE": str(processes)} for rank in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=str(job.logs / "ranks")),
        )
        try:
            result = context.wait(period=POLL_SECONDS)
        except SignalException as stopped:
            context.close(stopped.sigval, GRACE_SECONDS)
            if stopped.sigval == signal.SIGINT:
                raise KeyboardInterrupt from stopped
            note(f"Training stopped by {stopped.sigval.name}; the same command takes it up again.")
            raise SystemExit(128 + stopped.sigval) from stopped
        finally:
            context.close()
            job.store.unlink(missing_ok=True)
    if result is not None and result.failures:
        first = min(result.failures.values(), key=lambda failure: failure.timestamp)
        raise read_error(job) or _death(first)


def work_in_place(processes: int, lead: Callable[[Callable[[Job], None]], Any], follow: Callable[[Path], Job]) -> None:
    """Do this process's part under torchrun.

    Rank 0 makes the artifact with `lead`, and tells the others where its workspace is once the work begins; they do
    theirs with the job that `follow` makes of it, and wait until the artifact stands.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count != processes:
        raise UnsupportedError(
            f"torchrun has started {count} processes, and the recipe asks for {processes}.",
            where="parallel.data",
            mend=f"Give parallel.data={count}, or start {processes} processes.",
        )
    ranks = join()
    try:
        _share_work(ranks, lead, follow)
    except Stopped as stopped:
        raise SystemExit(worker.STOPPED) from stopped


def _share_work(ranks: Ranks, lead: Callable[[Callable[[Job], None]], Any], follow: Callable[[Path], Job]) -> None:
    if ranks.leads:

        def train_together(job: Job) -> None:
            _tell(ranks, str(job.workspace))
            worker.work(job, ranks)

        lead(train_together)
        _tell(ranks, None)
    else:
        while (workspace := _hear()) is not None:
            worker.work(follow(Path(workspace)), ranks)


def _tell(ranks: Ranks, what: str | None) -> None:
    if ranks.count > 1:
        dist.broadcast_object_list([what], src=0)


def _hear() -> str | None:
    heard: list[str | None] = [None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]


def _death(failure: ProcessFailure) -> MegalithError:
    """The first rank to fail, in words."""
    rank = failure.local_rank
    if failure.exitcode == -signal.SIGKILL:
        return ResourceError(
            f"the training process of rank {rank} was killed (signal 9), as the system does when memory runs out.",
            mend="Give a smaller train.micro_batch_size or free some memory; the same command goes on from the last "
            "checkpoint.",
        )
    if failure.exitcode == worker.STOPPED:
        return MegalithError(
            "the training processes were asked to stop, and have saved their state.",
            mend="The same command takes it up again.",
        )
    how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
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
