"""Workers are asked together, and nobody else runs meanwhile."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from megalith.errors import ResourceError
from megalith.planning.measuring.workers import SlowAnswerError, Workers, start_workers

ASKING = """
import signal
from megalith.planning.measuring.workers import start_workers

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
with start_workers(2, "tests.planning.measuring.echo") as workers:
    print("asking", flush=True)
    workers.ask({"sleep": 600}, 2)
"""


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
    with start_workers(2, "tests.planning.measuring.echo") as workers:
        wait_for(workers, [psutil.STATUS_STOPPED] * 2)
        assert workers.ask({"a": 1}, 2) == [{"a": 1}, {"a": 1}]
        assert workers.ask({"b": 2}, 1) == [{"b": 2}]
        wait_for(workers, [psutil.STATUS_STOPPED] * 2)
    assert not any(psutil.pid_exists(process.pid) for process in workers.processes)


def test_a_worker_that_has_died_is_told_of() -> None:
    with start_workers(2, "tests.planning.measuring.echo") as workers:
        workers.processes[1].kill()
        with pytest.raises(ResourceError, match="ended with status -9"):
            workers.ask({"a": 1}, 2)


def test_what_a_worker_has_said_at_its_end_is_told() -> None:
    with pytest.raises(ResourceError, match=r"status 1: .*No module named tests\.planning\.measuring\.nobody"):
        start_workers(1, "tests.planning.measuring.nobody").__enter__()


def test_workers_that_take_too_long_are_replaced_and_can_be_asked_again() -> None:
    with start_workers(2, "tests.planning.measuring.echo") as workers:
        first = [process.pid for process in workers.processes]
        with pytest.raises(SlowAnswerError, match="within 1 s"):
            workers.ask({"sleep": 600}, 2, seconds=1)
        assert not any(psutil.pid_exists(pid) for pid in first)
        assert workers.ask({"a": 1}, 2) == [{"a": 1}, {"a": 1}]
    assert not any(psutil.pid_exists(process.pid) for process in workers.processes)


def test_the_first_interrupt_ends_measuring_and_a_kill_leaves_nothing_that_the_next_start_does_not_remove(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for number, status in ((signal.SIGINT, 1), (signal.SIGKILL, -signal.SIGKILL)):
        asking = subprocess.Popen(
            [sys.executable, "-c", ASKING],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        assert asking.stdout is not None
        assert asking.stdout.readline() == "asking\n"
        children = psutil.Process(asking.pid).children()
        assert len(children) == 2
        asking.send_signal(number)
        assert asking.wait(timeout=60) in (status, -number)
        assert psutil.wait_procs(children, timeout=10)[1] == []
        assert len(list(tmp_path.glob("megalith-probe-*"))) == (1 if number is signal.SIGKILL else 0)
    live = tmp_path / f"megalith-probe-{os.uname().nodename}-{os.getpid()}-other"
    live.mkdir()
    sweep_in(tmp_path)
    assert list(tmp_path.glob("megalith-probe-*")) == [live]


def sweep_in(folder: Path) -> None:
    """Start workers once with `folder` for temporary files."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        with start_workers(1, "tests.planning.measuring.echo"):
            pass
    finally:
        tempfile.tempdir = before
