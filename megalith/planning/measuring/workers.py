"""The measuring workers as the planner sees them: started together, asked together, gone at the end."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from megalith.errors import ResourceError
from megalith.kernels import choose
from megalith.processes import wait_politely

START_SECONDS = 300.0  # that a worker may take to import torch, on a machine with other work too
ANSWER_SECONDS = 600.0  # that an answer may take, where the question sets no limit of its own
LOOK_SECONDS = 1.0  # between looks at the other workers while one is waited for
_PREFIX = "megalith-probe-"


class SlowAnswerError(ResourceError):
    """A worker took longer than its question allows; it has been killed and replaced."""


class Workers:
    """One process a rank; rank 0 alone answers for one process. Those that are not asked are stopped."""

    def __init__(self, ranks: int, module: str, folder: Path) -> None:
        self._ranks, self._module, self._folder = ranks, module, folder
        self._starts = 0
        self.processes: list[subprocess.Popen[str]] = []
        self.base_bytes = 0
        """Resident memory of a worker after one tiny step: Python, torch, megalith."""

    def start(self) -> None:
        """Start all workers and wait until they are ready. Raises ResourceError where one dies."""
        self._starts += 1
        store = self._folder / f"store-{self._starts}"
        for rank in range(self._ranks):
            with self._log(rank).open("wb") as said:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", self._module, str(rank), str(self._ranks), str(store), str(os.getpid())],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=said,
                        text=True,
                        env={
                            **os.environ,
                            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                            "LOCAL_RANK": str(rank),
                        },
                    )
                )
        ready = self._read(self._ranks, START_SECONDS)
        self.base_bytes = max(each["base_bytes"] for each in ready)
        self.stop()

    def ask(
        self, question: Mapping[str, Any], ranks: int = 1, *, seconds: float = ANSWER_SECONDS
    ) -> list[dict[str, Any]]:
        """The answers of the first `ranks` ranks, which work at the same time while all others are stopped.

        Raises SlowAnswerError after `seconds`: then the workers have been replaced, and the next question can be asked.
        """
        if "threads" in question:
            question = {**question, "kernels": choose(question["threads"])}
        for process in self.processes[:ranks]:
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
        try:
            answers = self._read(ranks, seconds)
        except SlowAnswerError:
            self.restart()
            raise
        self.stop()
        return answers

    def stop(self) -> None:
        """Have nobody run until asked: the threads of gloo's connections look around a hundred times a second each."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)

    def restart(self, ranks: int | None = None) -> None:
        """Have new workers, `ranks` or as many as before, in place of all that there are, dead ones among them."""
        self._ranks = ranks or self._ranks
        self.kill()
        self.start()

    def kill(self) -> None:
        """End all workers, whatever they are doing."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()
        self.processes.clear()

    def _read(self, ranks: int, seconds: float) -> list[dict[str, Any]]:
        """A line of each of the first `ranks` workers, all within `seconds`."""
        end = time.monotonic() + seconds
        return [self._read_line(rank, seconds, end) for rank in range(ranks)]

    def _read_line(self, rank: int, seconds: float, end: float) -> dict[str, Any]:
        process = self.processes[rank]
        assert process.stdout is not None
        readable: list[Any] = []
        while not readable and (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([process.stdout], [], [], min(left, LOOK_SECONDS))
            fallen = next((each for each in self.processes if not readable and each.poll()), None)
            if fallen is not None:  # the others wait for it in a reduction
                rank, process, readable = self.processes.index(fallen), fallen, [fallen.stdout]
        assert process.stdout is not None
        if not readable:
            raise SlowAnswerError(
                f"a process that measures this machine has not answered within {seconds:.0f} s.",
                mend="Use a smaller model or a smaller model.sequence_length, or a machine with less other work.",
            )
        line = process.stdout.readline()
        if not line or process.poll():
            status = process.wait()
            said = self._log(rank).read_text(errors="replace").strip().splitlines()[-1:]
            raise ResourceError(
                f"a process that measures this machine ended with status {status}"
                f"{''.join(f': {last}' for last in said)}.",
                mend="Most likely the memory ran out: use a smaller model or a smaller model.sequence_length.",
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _log(self, rank: int) -> Path:
        """The file with what a worker says on standard error."""
        return self._folder / f"{rank}.log"


@contextlib.contextmanager
def start_workers(ranks: int, module: str = "megalith.planning.measuring.worker") -> Iterator[Workers]:
    """Start `ranks` workers, each of which runs `module`, and wait until all are ready; at the end they are killed.

    Raises ResourceError where one dies.
    """
    wait_politely()
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-") as folder:
        workers = Workers(ranks, module, Path(folder))
        try:
            workers.start()
            yield workers
        finally:
            workers.kill()


def _sweep() -> None:
    """Remove the folders of processes of this host that were killed before they could remove them themselves."""
    begin = f"{_PREFIX}{socket.gethostname()}-"
    for folder in Path(tempfile.gettempdir()).glob(f"{begin}*"):
        owner = folder.name.removeprefix(begin).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
