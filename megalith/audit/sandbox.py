"""A function that a model wrote, called in a process of its own with little time, memory and nothing to harm."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CPU_SECONDS = 2
WALL_SECONDS = 10.0
MEMORY_BYTES = 512 * 2**20
_MOST_ANSWER = 1 << 20
_SCRIPT = Path(__file__).with_name("sandboxed.py")


@dataclass(frozen=True)
class Called:
    """The outcome of each call of a function."""

    results: tuple[Any, ...]
    """For each call [value], or the error's text; empty where the program did not get so far."""
    error: str
    """Why there are no results; empty where there are."""
    network: str
    """How the network was kept away: `namespace` (by the kernel) or `hook` (within the interpreter)."""


def call(program: str, function: str, calls: Sequence[Sequence[Any]]) -> Called:
    """Define `program` and call `function` with each of the argument lists, whose values must be JSON's.

    Never raises for what the program does: time, memory, crashes and refusals are errors in the result.
    """
    asked = {
        "program": program,
        "function": function,
        "calls": list(calls),
        "seconds": CPU_SECONDS,
        "bytes": MEMORY_BYTES,
        "parent": os.getpid(),
    }
    with tempfile.TemporaryDirectory(prefix="megalith-probe-") as directory:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                input=json.dumps(asked).encode(),
                capture_output=True,
                timeout=WALL_SECONDS,
                cwd=directory,
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Called((), f"no answer within {WALL_SECONDS:g} seconds", "")
    try:
        told = json.loads(done.stdout[:_MOST_ANSWER])
    except ValueError:
        return Called((), _ended(done.returncode), "")
    return Called(tuple(told.get("results", ())), told.get("error", ""), told["network"])


def _ended(status: int) -> str:
    import signal

    if status == -signal.SIGXCPU or status == -signal.SIGKILL:
        return f"stopped: more than {CPU_SECONDS} seconds of processor time"
    return f"the process ended with status {status}"
