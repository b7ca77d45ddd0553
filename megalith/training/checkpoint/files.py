"""The files of a checkpoint directory: their names, and writing one so that it is on the disk when the call returns."""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from megalith.artifacts import sync, whole

LATEST = "latest"
UNFINISHED = ".unfinished"
_NAME = re.compile(r"step-(\d{8,})(\.replaced)?")


@dataclass(frozen=True, order=True)
class Name:
    """`step-00000012`; `.replaced` follows where another of the same step is about to stand in its place."""

    step: int
    is_replaced: bool = False

    def __str__(self) -> str:
        return f"step-{self.step:08d}{'.replaced' if self.is_replaced else ''}"

    def replaced(self) -> "Name":
        return replace(self, is_replaced=True)


def standing(directory: Path) -> list[Name]:
    """The checkpoints in a directory, newest first."""
    found = [_NAME.fullmatch(path.name) for path in directory.glob("step-*")]
    return sorted((Name(int(each[1]), bool(each[2])) for each in found if each), key=lambda n: (-n.step, n.is_replaced))


def in_order_of_trust(directory: Path) -> list[Name]:
    """The one that `latest` names and those before it, newest first; then those after it."""
    names = standing(directory)
    try:
        said = (directory / LATEST).read_text(errors="replace").strip()
    except OSError:
        return names
    latest = next((name for name in names if str(name) == said), None)
    if latest is None:
        return names
    return [name for name in names if name.step <= latest.step] + [name for name in names if name.step > latest.step]


class Written(BaseModel):
    """Size and digest of a file, or of its first bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


def write_whole(path: Path, content: bytes) -> Written:
    """Write a file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(content)
    sync(path.parent)
    return Written(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
