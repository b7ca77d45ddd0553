"""Evaluate artifacts with planted per-item results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, produce

Results = Sequence[Mapping[str, Any]]


def choices(scores: Sequence[float], groups: Sequence[str] | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The results of a task with choices: item i has the i-th score; `fields` are those of every item."""
    return [
        {
            "id": f"q{place}",
            "shots": [],
            "gold": [0],
            "bytes": [3, 4],
            "accuracy": score,
            **({"group": groups[place]} if groups else {}),
            **fields,
        }
        for place, score in enumerate(scores)
    ]


def judged(path: Path, tasks: Mapping[tuple[str, int], Results], *, model: str = "one", **row: Any) -> Artifact:
    """An artifact as `evaluate` leaves it; `row` is in each row of the table."""

    def build(workspace: Workspace) -> dict[str, Any]:
        for (name, shots), results in tasks.items():
            with workspace.file(f"items/{name}-{shots}.jsonl") as file:
                file.write_text("".join(json.dumps(result) + "\n" for result in results))
        rows = [
            {"name": name, "shots": shots, "metric": "accuracy", "score": 0.5, "documents": len(results), **row}
            for (name, shots), results in tasks.items()
        ]
        return {"tasks": rows}

    return produce(path, stage="evaluate", settings={}, inputs={"model/weights": model}, seed=0, build=build)
