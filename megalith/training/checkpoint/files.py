"""Files and directories that are on the disk when the call returns."""

import hashlib
import os
from pathlib import Path

from megalith.training.checkpoint.state import Written


def write_whole(path: Path, content: bytes) -> Written:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush(path.parent)
    return Written(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def flush(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
