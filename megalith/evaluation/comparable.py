"""Evaluate artifacts of two sides, brought to the items, prompts and shots that all of them share.

A side is one model, or several trainings of it (seeds), each scored with one draw of shots or several. A task at a
number of shots is refused where its file, prompt, texts or shots differ between the artifacts, and the reason is kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.artifacts import MANIFEST, Artifact, open_artifact
from megalith.errors import InputError
from megalith.input_files import parse_json, real_path

Result = Mapping[str, Any]
Key = tuple[str, int]
"""Task and number of shots."""

_SAME = {
    "task_digest": "the task's file",
    "template_digest": "the prompt's template",
    "version": "the task's version",
}
_SAME_OF_ITEM = {
    "prompt": "the prompt",
    "gold": "the right answer",
    "answer": "the right answer",
    "bytes": "the text",
    "characters": "the text",
    "group": "the group",
}


@dataclass(frozen=True)
class Run:
    """One task at one number of shots, as one artifact holds it."""

    place: Path
    weights: str
    """Digest of the model."""
    results: Mapping[str, Result]
    """By the item's id."""
    rows: Sequence[Mapping[str, Any]]
    """Its rows of the artifact's table."""


@dataclass(frozen=True)
class Matched:
    """One task at one number of shots on the items that all runs share."""

    name: str
    shots: int
    ids: tuple[str, ...]
    left_out: int
    """Items that some of the runs do not have."""
    a: Sequence[Sequence[Run]]
    """Trainings × draws of shots; as many draws, in the same order, for each training of both sides."""
    b: Sequence[Sequence[Run]]

    @property
    def runs(self) -> list[Run]:
        """All runs of both sides."""
        return [run for side in (self.a, self.b) for training in side for run in training]

    def results(self, run: Run) -> list[Result]:
        """The run's results of the shared items."""
        return [run.results[one] for one in self.ids]

    @property
    def groups(self) -> list[str]:
        """The cluster of each item; its own id where the task has no groups."""
        first = self.results(self.a[0][0])
        return [str(result.get("group") or result["id"]) for result in first]


def match(a: Sequence[Path], b: Sequence[Path]) -> tuple[list[Matched], list[tuple[str, int, str]]]:
    """The tasks that can be compared, and those that cannot: name, shots, and why.

    Raises InputError for a directory that is not a whole evaluate artifact, for one that is named twice on a side, and
    where nothing can be compared.
    """
    sides = [_read_side(places) for places in (a, b)]
    matched: list[Matched] = []
    refused: list[tuple[str, int, str]] = []
    for name, shots in dict.fromkeys(key for side in sides for runs in side for key in runs):
        found = _match(name, shots, *([run[name, shots] for run in side if (name, shots) in run] for side in sides))
        if isinstance(found, str):
            refused.append((name, shots, found))
        else:
            matched.append(found)
    if not matched:
        told = "; ".join(f"{name}, {shots} shots: {why}" for name, shots, why in refused) or "there are no tasks"
        raise InputError(
            f"nothing can be compared: {told}.",
            where=f"{a[0]}, {b[0]}",
            mend="Use two evaluations of the same tasks, items and shots (evaluate.tasks, evaluate.shots, seed).",
        )
    return matched, refused


def _read_side(places: Sequence[Path]) -> list[dict[Key, Run]]:
    resolved = [real_path(_evaluation(place)) for place in places]
    if len(set(resolved)) != len(resolved):
        raise InputError(
            "this artifact is named twice on one side.",
            where=str(next(place for place in resolved if resolved.count(place) > 1)),
            mend="Name each training once.",
        )
    return [dict(_runs(open_artifact(place, "evaluate"))) for place in resolved]


def _evaluation(place: Path) -> Path:
    """The directory of an evaluation, given it or its expedition."""
    inner = place / "evaluate"
    return inner if not (place / MANIFEST).is_file() and (inner / MANIFEST).is_file() else place


def _runs(artifact: Artifact) -> Iterator[tuple[Key, Run]]:
    model = {name: digest for name, digest in artifact.manifest.inputs.items() if name.startswith("model/")}
    weights = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()
    rows: dict[Key, list[Mapping[str, Any]]] = {}
    for row in artifact.facts["tasks"]:
        rows.setdefault((row["name"], row["shots"]), []).append(row)
    for (name, shots), of_task in rows.items():
        path = artifact.path / "items" / f"{name}-{shots}.jsonl"
        yield (name, shots), Run(artifact.path, weights, dict(_results(path)), of_task)


def _results(path: Path) -> Iterator[tuple[str, Result]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            result = parse_json(line, where=f"{path}, line {number}")
            yield str(result["id"]), result


def _match(name: str, shots: int, a: Sequence[Run], b: Sequence[Run]) -> Matched | str:
    """The task on common items, or the reason why it cannot be compared."""
    if not a or not b:
        return f"only {'B' if b else 'A'} has it"
    runs = [*a, *b]
    for key, what in _SAME.items():
        told = {str(row[key]) for run in runs for row in run.rows if row.get(key) is not None}
        if len(told) > 1:
            return f"{what} differs ({', '.join(one[:12] for one in sorted(told))})"
    ids = tuple(one for one in runs[0].results if all(one in run.results for run in runs))
    left_out = len({one for run in runs for one in run.results}) - len(ids)
    if not ids:
        return "no items" if not left_out else "no item stands in all of them"
    draws = [_draw(run, ids) for run in runs]
    for run, draw in zip(runs, draws, strict=True):
        first = runs[draws.index(draw)]
        for one in ids:
            if differs := _difference(first.results[one], run.results[one]):
                return f"{differs} of item {one} differs between {first.place} and {run.place}"
    sides = [_table(a, draws[: len(a)]), _table(b, draws[len(a) :])]
    rows = [row for side in sides for row in side.values()]
    shared = [draw for draw in dict.fromkeys(draws) if all(draw in row for row in rows)]
    if not shared:
        return f"the shots differ: no draw of shots was used for all of {', '.join(str(run.place) for run in runs)}"
    tables = [[[row[draw] for draw in shared] for row in side.values()] for side in sides]
    return Matched(name, shots, ids, left_out, *tables)


def _draw(run: Run, ids: Sequence[str]) -> str:
    """A digest of the solved examples before each of the items, wrong labels included."""
    shown = [[run.results[one].get(key) for key in ("shots", "shot_labels", "labels", "wrong")] for one in ids]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def _table(runs: Sequence[Run], draws: Sequence[str]) -> dict[str, dict[str, Run]]:
    """Runs by model, then by draw of shots; the first one of several that are the same in both."""
    table: dict[str, dict[str, Run]] = {}
    for run, draw in zip(runs, draws, strict=True):
        table.setdefault(run.weights, {}).setdefault(draw, run)
    return table


def _difference(one: Result, other: Result) -> str | None:
    return next((what for key, what in _SAME_OF_ITEM.items() if one.get(key) != other.get(key)), None)
