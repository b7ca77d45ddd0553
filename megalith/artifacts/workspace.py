"""An artifact on disk, and the directory in which one is being built."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megalith.artifacts.digests import check_files
from megalith.artifacts.files import whole
from megalith.artifacts.manifest import LOGS, MANIFEST, Json, Manifest, read_manifest
from megalith.errors import InputError


@dataclass(frozen=True)
class Artifact:
    """A whole artifact on disk."""

    path: Path
    manifest: Manifest
    reused: bool = True

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def facts(self) -> dict[str, Json]:
        return self.manifest.facts


class Workspace:
    """The directory in which an artifact is being built."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def logs(self) -> Path:
        """The folder for what may differ between two equal runs."""
        (self.path / LOGS).mkdir(exist_ok=True)
        return self.path / LOGS

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield a temporary path; it becomes `name` when the block ends well, and vanishes when it does not."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as temporary:
            yield temporary

    def write_json(self, name: str, value: Json) -> None:
        """Write `value` as indented JSON, whole or not at all."""
        with self.file(name) as path:
            path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def open_artifact(path: Path, stage: str, *, check: bool = True) -> Artifact:
    """Read the whole artifact at `path` and compare its files with their digests.

    Without `check` files are not read: for ranks that follow another one which has checked. Raises InputError where no
    artifact stands, where it is of another stage, and where a file or the manifest is missing or damaged.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"a finished {stage} artifact is missing here.",
            where=str(path),
            mend=f"Run `megalith {stage}` or `megalith run` first.",
        )
    manifest = read_manifest(path)
    if manifest.stage != stage:
        raise InputError(f"this is a {manifest.stage} artifact, and a {stage} artifact is wanted.", where=str(path))
    if check:
        check_files(path, manifest)
    return Artifact(path, manifest)
