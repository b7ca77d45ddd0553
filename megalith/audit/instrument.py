"""An instrument of the audit: runs that leave a file of per-item results each, and a summary made from the files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.audit.subject import Subject

Item = dict[str, Any]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One pass over the model; an interrupted audit goes on at the first run without its file."""

    name: str
    """The file is items/NAME.jsonl."""
    judge: Callable[[Subject], list[Item]]


@dataclass(frozen=True)
class Instrument:
    """Runs over the model, and the facts that follow from their results."""

    runs: Sequence[Run]
    summary: Callable[[Mapping[str, list[Item]]], Facts]
    """The results by the name of the run."""
    files: Sequence[Path] = ()
    """Files of the user that the results depend on."""


@dataclass(frozen=True)
class Skipped:
    """An instrument that cannot run here, and the reason."""

    reason: str
