"""Files that are on the disk when the call returns."""

import hashlib
from pathlib import Path

from megalith.artifacts import sync, whole
from megalith.training.checkpoint.state import Written


def write_whole(path: Path, content: bytes) -> Written:
    """Write a file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(content)
    sync(path.parent)
    return Written(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
