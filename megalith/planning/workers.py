"""The probing workers as the planner sees them: started together, asked together, gone at the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.errors import ResourceError
from megalith.kernels import choose
from megalith.processes import wait_politely


@dataclass(frozen=True)
class Workers:
    """One process a rank; rank 0 alone answers for one process."""

    processes: Sequence[subprocess.Popen[str]]
    logs: Sequence[Path]
    """What each process says on standard error."""
    base_bytes: int
    """Resident memory of a worker after one tiny step: Python, torch, megalith."""

    def ask(self, question: Mapping[str, Any], ranks: int = 1) -> list[dict[str, Any]]:
        """The answers of the first `ranks` ranks, which work at the same time while all others are stopped."""
        asked = self.processes[:ranks]
        if "threads" in question:
            question = {**question, "kernels": choose(question["threads"])}
        for process in asked:
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
        answers = [_read(process, log) for process, log in zip(asked, self.logs, strict=False)]
        self.stop()
        return answers

    def stop(self) -> None:
        """Have nobody run until asked: the threads of gloo's connections look around a hundred times a second each."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def start_workers(ranks: int, module: str = "megalith.planning.probe") -> Iterator[Workers]:
    """Start `ranks` workers, each of which runs `module`, and wait until all are ready.

    Raises ResourceError where one dies.
    """
    wait_politely()
    with tempfile.TemporaryDirectory(prefix="megalith-probe-") as folder:
        command = [sys.executable, "-m", module]
        logs = [Path(folder) / f"{rank}.log" for rank in range(ranks)]
        processes: list[subprocess.Popen[str]] = []
        try:
            for rank, log in enumerate(logs):
                with log.open("wb") as said:
                    processes.append(
                        subprocess.Popen(
                            [*command, str(rank), str(ranks), str(Path(folder) / "store"), str(os.getpid())],
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE,
                            stderr=said,
                            text=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                        )
                    )
            ready = [_read(process, log) for process, log in zip(processes, logs, strict=True)]
            workers = Workers(processes, logs, max(each["base_bytes"] for each in ready))
            workers.stop()
            yield workers
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def _read(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        status = process.wait()
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ResourceError(
            f"a process that measures this machine ended with status {status}{''.join(f': {last}' for last in said)}.",
            mend="Most likely the memory ran out: give a smaller model or a smaller model.sequence_length.",
        )
    answer: dict[str, Any] = json.loads(line)
    return answer
