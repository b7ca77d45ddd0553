"""One task at one number of shots, scored in parts that a killed run finds again.

Parts are cut by the questions alone, so that a run that goes on where it was gives the same bits as one that was never
interrupted. The file of the items takes the place of its parts when all are there.
"""

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from megalith.artifacts import Workspace
from megalith.console import progress
from megalith.evaluation.scoring import Result

PART_BATCHES = 2
"""Batches of a part, about: what a kill can cost."""
_CHARACTERS = 4  # of a token of English text


@dataclass(frozen=True)
class Run:
    """One task at one number of shots: `judge` scores the items at some places."""

    name: str
    kind: str
    shots: int
    sizes: Sequence[int]
    """Characters of each item."""
    judge: Callable[[Sequence[int]], list[Result]]
    note: str | None = None
    """Why there are no items, or what must be known beside the score."""
    by: tuple[str, ...] = ()
    """Fields by which the score is broken down."""
    row: dict[str, Any] = field(default_factory=dict)
    """Version and digests, for every row."""
    told: dict[str, Any] = field(default_factory=dict)
    """Details for the facts."""
    texts: Sequence[tuple[str, str]] = ()
    """Id and text of each document, with its right answer, to be looked for in training text."""

    @property
    def file(self) -> str:
        return f"items/{self.name}-{self.shots}.jsonl"

    def results(self, workspace: Workspace, batch_tokens: int) -> list[Result]:
        """The per-item results: of an earlier attempt, or else new ones; written into the workspace."""
        standing = workspace.path / self.file
        parts = workspace.path / "parts" / f"{self.name}-{self.shots}"
        if not standing.is_file():
            self._score(workspace, batch_tokens)
            with workspace.file(self.file) as path, path.open("wb") as whole:
                for part in sorted(parts.glob("*.jsonl")):
                    whole.write(part.read_bytes())
        if parts.is_dir():  # all that is in them stands in the file of the items
            shutil.rmtree(parts)
        with contextlib.suppress(OSError):  # others' parts are in it, or it is not there
            parts.parent.rmdir()
        return [json.loads(line) for line in standing.read_text(encoding="utf-8").splitlines()]

    def _score(self, workspace: Workspace, batch_tokens: int) -> None:
        with progress() as bar:
            line = bar.add_task(f"Evaluating {self.name}, {self.shots} shots", total=len(self.sizes))
            for number, places in enumerate(parts_of(self.sizes, PART_BATCHES * batch_tokens * _CHARACTERS)):
                name = f"parts/{self.name}-{self.shots}/{number:06}.jsonl"
                if not (workspace.path / name).is_file():
                    found = self.judge(places)
                    with workspace.file(name) as path:
                        text = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in found)
                        path.write_text(text, encoding="utf-8")
                bar.update(line, completed=places[-1] + 1)

    def tell(self, results: Sequence[Result]) -> dict[str, Any]:
        """Details of the run that are not in the table."""
        positions = Counter(result["predicted"] for result in results if "predicted" in result)
        return {
            "name": self.name,
            "shots": self.shots,
            "documents": len(results),
            "truncated": sum(bool(result.get("truncated")) for result in results),
            "straddled": sum(bool(result.get("straddled")) for result in results),
            "dropped_shots": sum(result.get("dropped_shots", 0) for result in results),
            "predicted_positions": [positions[at] for at in range(max(positions) + 1)] if positions else None,
            **self.told,
        }


def parts_of(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Places in order, in parts of at most `most` characters, or of one item."""
    parts: list[list[int]] = []
    held = 0
    for place, size in enumerate(sizes):
        if not parts or held + size > most:
            parts.append([])
            held = 0
        parts[-1].append(place)
        held += size
    return parts
