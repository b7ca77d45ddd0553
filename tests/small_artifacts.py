"""Small artifacts for tests: made whole, or left half-made."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from megalith.artifacts import (
    Artifact,
    Workspace,
    produce,
)
from megalith.errors import MegalithError

LONG = "megalith.artifacts.making.LONG_SECONDS"


def make(
    path: Path,
    size: int = 3,
    *,
    build: Callable[[Workspace], dict[str, Any]] | None = None,
    inputs: Mapping[str, str] | None = None,
    recorded: Mapping[str, Any] | None = None,
    precious: bool = False,
) -> Artifact:
    def write(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("data/out.txt") as file:
            file.write_text("x" * size)
        with workspace.file("other.txt") as file:
            file.write_text("other")
        (workspace.logs / "times.txt").write_text(str(time.time_ns()))
        return {"size": size}

    return produce(
        path,
        stage="test",
        settings={"test": {"size": size, "name": "n"}, "version": 1},
        inputs=inputs or {},
        seed=1,
        build=build or write,
        recorded=recorded,
        precious=precious,
    )


def half_make(path: Path, size: int = 3, *, precious: bool = False, **options: Any) -> Path:
    """An attempt that ends after its first piece."""

    def stop(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("checkpoints/first") as file:
            file.write_text("whole")
        raise MegalithError("stopped")

    with pytest.raises(MegalithError, match="stopped"):
        make(path, size, build=stop, precious=precious, **options)
    return path.with_name(f".{path.name}.partial")


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())
