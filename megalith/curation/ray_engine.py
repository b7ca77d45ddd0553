"""Tasks on a Ray cluster, through Daft: silent, and with no word to the outside.

Both come with the extra `ray`. Daft's telemetry is off before it is imported.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ.update(
    {
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DAFT_PROGRESS_BAR": "0",
    }
)

from megalith.errors import InputError, UnsupportedError

try:
    import daft
    import ray  # type: ignore[import-not-found, unused-ignore]  # it is an extra
except ImportError as error:
    raise UnsupportedError(
        "this engine wants the packages ray and daft, which are not installed.",
        where="--engine",
        mend="Run `pip install 'megalith[ray]'`, or leave --engine out.",
    ) from error


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or begin one of this machine."""
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster answers: {error}.", where="--ray-address") from error
    daft.set_runner_ray()


def cores() -> int:
    """Cores of the whole cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def answers(answer: Callable[[Any, str], str], work: Any, tasks: list[str], workers: int) -> Iterator[str]:
    """`answer(work, task)` of each task, as they end."""
    # half of a core each, so that those of a node that is lost find room on the others
    pool = daft.cls(_Worker, max_concurrency=workers, cpus=0.5)(answer, work)
    frame = daft.from_pydict({"task": tasks}).into_partitions(len(tasks))
    plan = frame.select(pool.all(daft.col("task")).alias("answer"))
    for batch in plan.to_arrow_iter(results_buffer_size=workers):
        yield from batch["answer"].to_pylist()


class _Worker:
    """Does tasks, one after another."""

    def __init__(self, answer: Callable[[Any, str], str], work: Any) -> None:
        self.answer, self.work = answer, work

    @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)  # type: ignore[untyped-decorator, unused-ignore]  # Daft is an extra: untyped where it is missing
    def all(self, tasks: daft.Series) -> list[str]:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return [self.answer(self.work, task) for task in tasks.to_pylist()]  # Daft would print what libraries say
