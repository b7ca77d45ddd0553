"""The processes that train: started with torch's own elastic agent on one machine, or found under torchrun.

The agent watches the ranks: when one dies it ends the others and says which. Each rank asks the kernel to be killed
with the process that started it, so that none outlives a `kill -9` of the command.
"""

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from megalith.console import note
from megalith.errors import MegalithError, ResourceError, UnsupportedError
from megalith.parallel import Ranks, join
from megalith.threads import wait_politely
from megalith.training import worker
from megalith.training.job import ERROR, Job, Stopped, read_error

JOB = "job.json"
GRACE_SECONDS = 60  # for the last step and a checkpoint, when asked to stop
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def start(job: Job, processes: int) -> None:
    """Train in `processes` new processes on this machine, and wait for them.

    Raises the MegalithError that a process raised; ResourceError when one died of something else; SystemExit when this
    process was asked to end, after the state has been saved.
    """
    (job.logs / ERROR).unlink(missing_ok=True)
    file = job.logs / JOB
    file.write_text(job.model_dump_json())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # a free port
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=GRACE_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=str(job.logs / "ranks")),
    )
    wait_politely()
    command = ["-m", "megalith.training", str(file), str(os.getpid())]
    try:
        with _own_signals(), _quiet_agent():
            elastic_launch(config, sys.executable)(*command)
    except SignalException as stopped:
        if stopped.sigval == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        note(f"Training stopped by {stopped.sigval.name}; the same command takes it up again.")
        raise SystemExit(128 + stopped.sigval) from stopped
    except ChildFailedError as failed:
        raise (read_error(job) or _death(failed)) from failed


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


def _death(failed: ChildFailedError) -> MegalithError:
    """The first rank to fail, in words."""
    rank, failure = failed.get_first_failure()
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
    """Put back the signal handlers that the agent replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Keep the agent from logging what is raised here as an error of one paragraph."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if "distributed.elastic" in name]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
