"""Workers are asked together, and nobody else runs meanwhile."""

import time

import psutil
import pytest

from megalith.errors import ResourceError
from megalith.planning.workers import Workers, start_workers


def states(workers: Workers) -> list[str]:
    return [psutil.Process(process.pid).status() for process in workers.processes]


def wait_for(workers: Workers, wanted: list[str]) -> None:
    """Signals take a moment to arrive."""
    for _ in range(200):
        if states(workers) == wanted:
            return
        time.sleep(0.01)
    assert states(workers) == wanted


def test_workers_that_are_not_asked_are_stopped() -> None:
    with start_workers(2, "tests.planning.echo") as workers:
        wait_for(workers, [psutil.STATUS_STOPPED] * 2)
        assert workers.ask({"a": 1}, 2) == [{"a": 1}, {"a": 1}]
        assert workers.ask({"b": 2}, 1) == [{"b": 2}]
        wait_for(workers, [psutil.STATUS_STOPPED] * 2)
    assert not any(psutil.pid_exists(process.pid) for process in workers.processes)


def test_a_worker_that_has_died_is_told_of() -> None:
    with start_workers(2, "tests.planning.echo") as workers:
        workers.processes[1].kill()
        with pytest.raises(ResourceError, match="ended with status -9"):
            workers.ask({"a": 1}, 2)


def test_what_a_worker_has_said_at_its_end_is_told() -> None:
    with pytest.raises(ResourceError, match=r"status 1: .*No module named tests\.planning\.nobody"):
        start_workers(1, "tests.planning.nobody").__enter__()
