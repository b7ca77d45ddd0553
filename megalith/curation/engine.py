"""Hands out tasks: to processes of this machine, or through Daft to a Ray cluster.

`spread` is the one plan: a list of tasks, a function over it. What a task makes it writes as files of its own; only its
small answer comes back, so nothing of the corpus passes through the process that drives.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Literal

from loky import get_reusable_executor

from megalith.errors import MegalithError, ResourceError, error_from_json, error_to_json
from megalith.machine import usable_cores
from megalith.memory import oom_kills
from megalith.processes import die_with
from megalith.system_limits import limit_reached

__all__ = ["Engine", "Task", "Told", "processes_ended", "spread", "use_engine"]

Engine = Literal["native", "ray"]
Task = Mapping[str, Any]
"""A value that JSON can hold; `number` identifies the task."""
Work = Callable[[Task], Mapping[str, Any]]
Told = Callable[[int, int], None]
"""Takes the number of tasks that are done, and of all."""

ATTEMPTS = 2
"""In which workers died and nothing was done, one after another, before it is given up."""
WORTH_BYTES = 8_000_000
"""A process more takes longer to start than to read so much text."""
_engine: Engine = "native"
_pool: Any = None
"""The processes that stay."""


def use_engine(engine: Engine, ray_address: str | None = None) -> None:
    """Run what follows on all cores of this machine, or on a Ray cluster (one of this machine if no address).

    On a cluster every node must see the files of the sources and of the artifacts under the same paths, and have the
    same Megalith. The engine is chosen once in a process. Raises UnsupportedError where Ray is not installed,
    InputError where no cluster answers.
    """
    global _engine
    if engine == "ray":
        from megalith.curation.ray_engine import connect

        connect(ray_address)
    _engine = engine


def spread(work: Work, tasks: Sequence[Task], total_bytes: int, told: Told) -> Iterator[tuple[Task, Mapping[str, Any]]]:
    """Each task with its answer, in the order in which they end; `told` hears of each.

    `work` goes to other processes, so it is a module's function or a value with `__call__`; it must be able to take up
    a task that it, or another, has done in part. Little work (`total_bytes` of text, about) is done in this process.
    What is left when a worker dies is given out again as long as some of it gets done. Raises what `work` raises of
    Megalith's errors, and ResourceError for a full disk or workers that die; what else `work` raises is a MegalithError
    that names the files of its task.
    """
    left = {int(task["number"]): task for task in tasks}
    told(0, len(tasks))
    killed = oom_kills()
    barren = 0
    while left:
        before = len(left)
        try:
            for answer in _answers(work, list(left.values()), total_bytes):
                _raise_told(answer)
                task = left.pop(answer["number"])
                told(len(tasks) - len(left), len(tasks))
                yield task, answer["told"]
        except MegalithError:
            raise
        except Exception as error:  # a process or a node is gone, and says nothing any more
            barren = barren + 1 if len(left) == before else 0
            if barren == ATTEMPTS:
                raise _died(error, out_of_memory=oom_kills() > killed) from error


def _died(error: Exception, *, out_of_memory: bool) -> ResourceError:
    if out_of_memory:
        what, mend = "memory ran out, and the kernel killed a worker.", "Use fewer cores (taskset)"
    else:
        said = str(error).splitlines() or [repr(error)]
        told = next((line for line in said if "exit codes" in line), said[0])  # loky's; Ray's errors begin with why
        what = f"a worker process ended in the middle of its work, {ATTEMPTS} times: {told.rstrip('.')}."
        mend = "See what ends it (a signal, a crash: dmesg may tell)"
    return ResourceError(what, where="curate", mend=f"{mend}; then run the same command again: it goes on from here.")


def _answers(work: Work, tasks: Sequence[Task], total_bytes: int) -> Iterator[dict[str, Any]]:
    workers = min(_cores(), len(tasks), 1 + total_bytes // WORTH_BYTES)
    told = map(json.dumps, tasks)
    if _engine == "ray":
        from megalith.curation.ray_engine import answers

        found = answers(answer, work, list(told), workers)
    elif workers == 1:
        found = (answer(work, task) for task in told)
    else:
        found = _from_processes(work, told, workers)
    yield from map(json.loads, found)


@contextlib.contextmanager
def processes_ended() -> Iterator[None]:
    """End the processes of this machine when the block is left; within it they stay from one pass to the next."""
    global _pool
    try:
        yield
    finally:
        if _pool is not None:
            _pool.shutdown(wait=True, kill_workers=True)
            _pool = None


def _from_processes(work: Work, tasks: Iterator[str], workers: int) -> Iterator[str]:
    """The answers of processes that stay for the next pass; where one dies, or nobody waits any more, all are ended."""
    global _pool
    # loky replaces a process that has grown by 300 MB, which is right, and warns
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given", category=UserWarning)
    _pool = pool = get_reusable_executor(workers, timeout=None, initializer=_begin, initargs=(os.getpid(),))
    running = set[Future[str]]()
    whole = False
    try:
        while True:
            while len(running) < 2 * workers and (task := next(tasks, None)) is not None:
                running.add(pool.submit(answer, work, task))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                yield one.result()
        whole = True
    finally:
        if not whole:
            pool.shutdown(wait=True, kill_workers=True)


def _begin(parent: int) -> None:
    """Begin a process: it ends with its parent, and what libraries have to say is not for the terminal."""
    die_with(parent)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            os.dup2(nowhere, stream)
    os.close(nowhere)


def answer(work: Work, text: str) -> str:
    """Do a task. An error is an answer, so that it is told in the same words on every engine."""
    task = json.loads(text)
    told: MegalithError
    try:
        return json.dumps({"number": task["number"], "told": work(task)})
    except MegalithError as error:
        told = error
    except Exception as error:  # noqa: BLE001 - told by whoever handed the task out
        told = limit_reached(error) or _unforeseen(error, task)
    return json.dumps({"number": task["number"], "error": error_to_json(told)})


def _unforeseen(error: Exception, task: Task) -> MegalithError:
    """A fault of Megalith's or of a library, with the files that it came with."""
    files = [str(piece["path"]) for piece in task.get("pieces", ())]
    others = f" and {len(files) - 1} other files" if len(files) > 1 else ""
    return MegalithError(
        f"this cannot be curated: {type(error).__name__}: {' '.join(str(error).split()) or 'without a word'}.",
        where=f"{files[0]}{others}" if files else "curate",
        mend="This is a fault of Megalith or of a library: please report it; without the file it goes on.",
    )


def _raise_told(answer: Mapping[str, Any]) -> None:
    if "error" in answer:
        raise error_from_json(answer["error"])


def _cores() -> int:
    if _engine == "ray":
        from megalith.curation.ray_engine import cores

        return cores()
    return usable_cores()
