"""Official files below the user's directory, and samples of their rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from megalith.audit.instrument import Skipped
from megalith.errors import InputError
from megalith.evaluation.formats import DataFile
from megalith.inference import keyed_hash

Row = TypeVar("Row")


def find(data: Path | None, folder: str, names: Sequence[str], origin: str) -> list[Path] | Skipped:
    """Return the official files `names`, plain or .gz, below `data` in `folder` or flat; Skipped if any is missing."""
    found = []
    for name in names:
        path = DataFile((f"{folder}/{name}",), origin).find_optional(data)
        if path is None:
            place = f"below {data}" if data else "here; set audit.data to the directory above it"
            return Skipped(f"{folder}/{name} (from {origin}) is missing {place}.")
        found.append(path)
    return found


def filled(rows: list[Row], path: Path) -> list[Row]:
    """Return the rows of a file. Raises InputError where there are none."""
    if not rows:
        raise InputError("this file has no rows.", where=str(path), mend="Use the file as published.")
    return rows


def sample(rows: Sequence[Row], most: int, seed: int, group: Callable[[Row], str]) -> list[Row]:
    """Return at most `most` rows, in their order: whole groups, drawn by a hash of their names (at least one)."""
    if len(rows) <= most:
        return list(rows)
    members: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        members.setdefault(group(row), []).append(place)
    kept: list[int] = []
    for name in sorted(members, key=lambda name: (keyed_hash(seed, name), name)):
        if kept and len(kept) + len(members[name]) > most:
            break
        kept += members[name]
    return [rows[place] for place in sorted(kept)]
