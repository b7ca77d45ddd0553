"""Daft, as curation uses it: embedded or on a Ray cluster, silent, and with no word to the outside.

Every module of this room takes `daft` from here, so that its telemetry is off before it is first imported. `spread` is
the one plan: a frame of tasks, a function over it. What a task makes it writes as files of its own; only its small
answer comes back, so nothing of the corpus passes through the process that drives.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

os.environ.update(
    {
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DAFT_PROGRESS_BAR": "0",
    }
)

import daft

from megalith.errors import (
    InputError,
    MegalithError,
    ResourceError,
    UnsupportedError,
    error_from_json,
    error_to_json,
)
from megalith.machine import usable_cores
from megalith.memory import oom_kills
from megalith.processes import die_with
from megalith.system_limits import limit_reached

__all__ = ["Engine", "Task", "Told", "daft", "spread", "use_engine"]

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
_engine: Engine | None = None


def use_engine(engine: Engine, ray_address: str | None = None) -> None:
    """Run what follows in this process, on all its cores, or on a Ray cluster (one of this machine if no address).

    On a cluster every node must see the files of the sources and of the artifacts under the same paths, and have the
    same Megalith. The engine is chosen once in a process. Raises UnsupportedError where Ray is not installed,
    InputError where no cluster answers.
    """
    global _engine
    if engine == "ray":
        try:
            import ray  # type: ignore[import-not-found, unused-ignore]  # it is an extra
        except ImportError as error:
            raise UnsupportedError(
                "this engine wants the package ray, which is not installed.",
                where="--engine",
                mend="Run `pip install 'megalith[ray]'`, or leave --engine out.",
            ) from error
        try:
            ray.init(address=ray_address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster answers: {error}.", where="--ray-address") from error
        daft.set_runner_ray()
    elif _engine is None:
        daft.set_runner_native()
    _engine = engine


def spread(work: Work, tasks: Sequence[Task], total_bytes: int, told: Told) -> Iterator[tuple[Task, Mapping[str, Any]]]:
    """Each task with its answer, in the order in which they end; `told` hears of each.

    `work` goes to other processes, so it is a module's function or a value with `__call__`; it must be able to take up
    a task that it, or another, has done in part. Little work (`total_bytes` of text, about) is done in this process.
    What is left when a worker dies is given out again as long as some of it gets done. Raises what `work` raises of
    Megalith's errors, and ResourceError for a full disk or workers that die; what else `work` raises is a MegalithError
    that names the files of its task.
    """
    if _engine is None:
        use_engine("native")
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
        said = str(error).partition(", stdout")[0].splitlines()
        what = f"a worker process ended in the middle of its work, {ATTEMPTS} times: {said[0] if said else error!r}."
        mend = "See what ends it (a signal, a crash: dmesg may tell)"
    return ResourceError(what, where="curate", mend=f"{mend}; then run the same command again: it goes on from here.")


def _answers(work: Work, tasks: Sequence[Task], total_bytes: int) -> Iterator[dict[str, Any]]:
    workers = min(_cores(), len(tasks), 1 + total_bytes // WORTH_BYTES)
    if workers == 1 and _engine == "native":
        worker = _Worker(work, None)
        yield from (json.loads(worker.one(json.dumps(task))) for task in tasks)
        return
    parent = os.getpid() if _engine == "native" else None
    if _engine == "native":
        pool = daft.cls(_Worker, max_concurrency=workers, use_process=True)(work, parent)
    else:  # half of a core each, so that those of a node that is lost find room on the others
        pool = daft.cls(_Worker, max_concurrency=workers, cpus=0.5)(work, parent)
    frame = daft.from_pydict({"task": [json.dumps(task) for task in tasks]})
    if _engine == "ray":
        frame = frame.into_partitions(len(tasks))  # the embedded engine deals out batches by itself
    plan = frame.select(pool.all(daft.col("task")).alias("answer"))
    for batch in plan.to_arrow_iter(results_buffer_size=workers):
        yield from (json.loads(answer) for answer in batch["answer"].to_pylist())


class _Worker:
    """Does tasks, one after another. An error is an answer, so that it is told in the same words on every engine."""

    def __init__(self, work: Work, parent: int | None) -> None:
        self.work = work
        if parent is not None:
            die_with(parent)

    @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
    def all(self, tasks: daft.Series) -> list[str]:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return [self.one(task) for task in tasks.to_pylist()]  # Daft would print what libraries have to say

    def one(self, text: str) -> str:
        task = json.loads(text)
        told: MegalithError
        try:
            return json.dumps({"number": task["number"], "told": self.work(task)})
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
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return usable_cores()
