"""Results as tables, cells and JSON."""

import json
import os
from typing import Any

from megalith.artifacts import Artifact
from megalith.console import show, table


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))  # noqa: T201 - the one place that prints for a program


def counted(number: float, one: str, more: str | None = None) -> str:
    """`1 node`, `1,200 nodes`."""
    return f"{number:,.0f} {one if round(number) == 1 else more or one + 's'}"


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def signed(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:+.1f} %"


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list):
        return " … ".join(cell(inner) for inner in value)
    return "–" if value is None else str(value)


def show_facts(artifact: Artifact, *, as_json: bool) -> None:
    """Print what a stage found: as one object, or as tables."""
    if os.environ.get("RANK", "0") != "0":  # one of several under torchrun speaks
        return
    if as_json:
        print_json({**artifact.facts, "artifact": str(artifact.path), "digest": artifact.digest})
        return
    rows: list[tuple[str, str]] = []
    lists: list[tuple[str, list[dict[str, Any]]]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and len(value) > 1 and all(map(_is_row, value.values())):
            lists.append((prefix, [{"name": key, **inner} for key, inner in value.items()]))
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list | tuple) and value and all(isinstance(entry, dict) for entry in value):
            lists.append((prefix, list(value)))
        else:
            rows.append((prefix, cell(value)))

    walk("", artifact.facts)
    for title, entries in lists:
        headings = list(dict.fromkeys(name for entry in entries for name in entry))
        show(table(title, headings, [[cell(entry.get(name)) for name in headings] for entry in entries]))
    show(table(f"{artifact.manifest.stage}: {artifact.path}", ("fact", "value"), rows))


def _is_row(value: Any) -> bool:
    """Whether it is one line of a table: names with a single value each."""
    return isinstance(value, dict) and not any(isinstance(inner, dict | list | tuple) for inner in value.values())
