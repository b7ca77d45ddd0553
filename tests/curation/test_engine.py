"""Work handed out to processes, and what is said when it fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from megalith.curation import engine
from megalith.curation.engine import spread
from megalith.errors import MegalithError, ResourceError


@pytest.fixture(autouse=True)
def none_stays() -> Iterator[None]:
    with engine.processes_ended():
        yield


@dataclass(frozen=True)
class Fails:
    """Work that raises, or ends its process."""

    how: str

    def __call__(self, task: engine.Task) -> dict[str, int]:
        if self.how == "dies":
            os._exit(9)
        raise ValueError("of a kind that nobody foresaw")


def test_an_error_that_nobody_foresaw_names_its_files_and_says_nothing_of_memory() -> None:
    tasks = [{"number": 0, "pieces": [{"path": "https://user:secret@host/a.warc"}, {"path": "b.warc"}]}]
    with pytest.raises(MegalithError, match="cannot be curated: ValueError: of a kind") as raised:
        list(spread(Fails("raises"), tasks, 0, lambda done, total: None))
    assert raised.value.where == "https://***@host/a.warc and 1 other files"
    assert "memory" not in str(raised.value)
    assert raised.value.leaves_whole


@pytest.mark.parametrize(
    ("killed", "said"),
    [((0, 0), r"ended in the middle of its work, 2 times: .*EXIT\(9\)"), ((0, 1), "memory ran out")],
)
def test_a_worker_that_dies_is_blamed_on_memory_only_where_the_kernel_did_it(
    monkeypatch: pytest.MonkeyPatch, killed: tuple[int, int], said: str
) -> None:
    counts = iter(killed)
    monkeypatch.setattr(engine, "oom_kills", lambda: next(counts))
    tasks = [{"number": 0}, {"number": 1}]
    with pytest.raises(ResourceError, match=said):
        list(spread(Fails("dies"), tasks, 100_000_000, lambda done, total: None))


def test_daft_is_imported_with_its_telemetry_off() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    program = (
        "import socket\n"
        "def refuse(*arguments): raise SystemExit('tried to connect')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from megalith.curation.ray_engine import daft\n"
        "from daft.scarf_telemetry import opted_out\n"
        "assert opted_out()\n"
        "daft.from_pydict({'a': [1]}).collect()\n"
    )
    silent = ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "DAFT_ANALYTICS_ENABLED")
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@dataclass(frozen=True)
class Names:
    """Work that tells its process, and prints."""

    def __call__(self, task: engine.Task) -> dict[str, int]:
        sys.stdout.write("what a library has to say")
        return {"process": os.getpid()}


TASKS = [{"number": number} for number in range(20)]


def processes(tasks: list[dict[str, int]] = TASKS) -> set[int]:
    found = list(spread(Names(), tasks, 100_000_000, lambda done, total: None))
    assert sorted(task["number"] for task, _ in found) == list(range(len(tasks)))
    return {int(told["process"]) for _, told in found}


def test_processes_stay_for_the_next_pass_say_nothing_and_are_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    with engine.processes_ended():
        first = processes()
        assert os.getpid() not in first and first & processes()
    assert not any(psutil.pid_exists(one) and psutil.Process(one).status() != "zombie" for one in first)
    assert not first & processes()
    assert capfd.readouterr() == ("", "")


@dataclass(frozen=True)
class DiesOnce:
    """Work that kills its process, the first time."""

    mark: str

    def __call__(self, task: engine.Task) -> dict[str, int]:
        if task["number"] == 7 and not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}


def test_what_is_left_when_a_process_dies_is_given_to_new_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    found = list(spread(DiesOnce(str(tmp_path / "died")), TASKS, 100_000_000, lambda done, total: None))
    assert sorted(task["number"] for task, _ in found) == list(range(20))


def test_processes_end_with_a_driver_that_is_killed() -> None:
    program = (
        "import sys, time\n"
        "from tests.curation import test_engine\n"
        "from megalith.curation import engine\n"
        "engine.usable_cores = lambda: 2\n"
        "print(*test_engine.processes(), flush=True)\n"
        "time.sleep(600)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    workers = [int(one) for one in driver.stdout.readline().split()]
    assert workers
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(one) and psutil.Process(one).status() != "zombie" for one in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
