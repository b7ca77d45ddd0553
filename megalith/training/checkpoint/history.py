"""The run's history beside its checkpoints: files of JSON lines that only grow.

A run of a million steps would otherwise write all of its history again with every checkpoint. Each checkpoint says how
many bytes of each file belong to it, and their digest: a file that goes on after them is none the worse.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megalith.training.checkpoint.files import write_whole
from megalith.training.checkpoint.state import HISTORY, Progress, Written


class History:
    """The writing side, for one run of the program: it writes the files anew once, and then adds to them.

    `pending` belongs to the thread that trains, `write` to the one that saves; the one waits for the other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = dict.fromkeys(HISTORY, 0)
        self._ends = {name: (0, hashlib.sha256()) for name in HISTORY}

    def pending(self, progress: Progress) -> dict[str, list[bytes]]:
        """The lines of each file that have not been written."""
        return {name: [_line(record) for record in getattr(progress, name)[self._lines[name] :]] for name in HISTORY}

    def write(self, pending: Mapping[str, list[bytes]]) -> dict[str, Written]:
        """Add the lines, and return what each file holds by now. Raises OSError, and then has added none."""
        ends = {}
        for name, lines in pending.items():
            content = b"".join(lines)
            size, digest = self._ends[name]
            path = _path(self._directory, name)
            if size == 0:
                write_whole(path, content)
            elif content:
                _add(path, size, content)
            digest = digest.copy()
            digest.update(content)
            ends[name] = (size + len(content), digest)
        self._ends = ends
        for name, lines in pending.items():
            self._lines[name] += len(lines)
        return {name: Written(bytes=size, sha256=digest.hexdigest()) for name, (size, digest) in ends.items()}


def read_history(directory: Path, written: Mapping[str, Written]) -> dict[str, list[dict[str, Any]]] | None:
    """What the files held when they were `written`; None if that is not there any more."""
    history = {}
    for name in HISTORY:
        try:
            with _path(directory, name).open("rb") as file:
                content = file.read(written[name].bytes)
        except (OSError, KeyError):
            return None
        if hashlib.sha256(content).hexdigest() != written[name].sha256:
            return None
        history[name] = [json.loads(line) for line in content.splitlines()]
    return history


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.jsonl"


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode() + b"\n"


def _add(path: Path, size: int, content: bytes) -> None:
    """Write after the first `size` bytes, over what a failed attempt left: it had begun with the same lines."""
    with path.open("rb+") as file:
        file.seek(size)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
