"""Files that are whole or absent."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path of this process alone, which becomes `path` when the block ends well.

    A process that is killed leaves it behind, as `.*.tmp`: see `sweep`.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(directory: Path, *, deep: bool = False) -> None:
    """Remove the temporary files that killed processes left in `directory`; `deep` looks below it, too."""
    for torn in directory.rglob(".*.tmp") if deep else directory.glob(".*.tmp"):
        if torn.is_file():
            torn.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
