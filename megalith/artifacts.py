"""Artifacts: directories that are whole or absent.

A stage leaves a directory with a `manifest.json` (its settings, the digests of its inputs and outputs, versions, seed,
wall time, facts). It is built in `.NAME.partial` beside its place and renamed there at the end, so a half-written
artifact can never be mistaken for a whole one. The same settings, inputs and seed give the same key: such an artifact
is reused. A `.partial` directory of the same key is taken up where it was left; one of another key is thrown away.

Three kinds of file within an artifact: outputs, whose SHA-256 makes the artifact's digest; everything under `logs/`
(times, TensorBoard events), listed but not part of the digest; and the manifest itself.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from megalith.errors import InputError, MegalithError
from megalith.memory import PeakMemory
from megalith.system_limits import limit_reached

MANIFEST = "manifest.json"
KEY = ".key"
LOGS = "logs"
SCHEMA = 1

Json = Any  # what json.dumps takes; the settings and facts are checked by writing them


class Output(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What `manifest.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    stage: str
    key: str
    """Digest of stage, settings, inputs and seed: two artifacts of one key are interchangeable."""
    digest: str
    """Digest of the outputs, logs left out."""
    settings: dict[str, Json]
    inputs: dict[str, str]
    outputs: list[Output]
    seed: int
    versions: dict[str, str]
    started: str
    seconds: float
    """Wall time of the attempt that finished; what one that was killed had used is not known."""
    peak_memory_bytes: int
    """Largest resident memory of the building process and its children."""
    facts: dict[str, Json]
    """The figures that the stage reports; not part of the digest, since they hold times."""


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
        """Where a stage puts what may differ between two equal runs."""
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


def produce(
    path: Path,
    *,
    stage: str,
    settings: Mapping[str, Json],
    inputs: Mapping[str, str],
    seed: int,
    build: Callable[[Workspace], Mapping[str, Json]],
) -> Artifact:
    """Return the artifact at `path`, building it unless one of the same key stands there whole.

    `settings` is what the result depends on (the recipe's section), `inputs` the digest of each input by name. `build`
    fills the workspace and returns the facts. What it finds in the workspace was left by an earlier attempt of the same
    key; it must have been written through `Workspace.file` or an equal care.

    Raises whatever `build` raises. Then, what was half-written is removed; finished pieces stay for the next attempt if
    the error's kind says they are worth keeping. A full disk, or another limit of the machine, is raised as
    ResourceError.
    """
    key = _digest_json({"stage": stage, "settings": settings, "inputs": inputs, "seed": seed})
    standing = _standing(path, stage, key)
    if standing is not None:
        return standing
    partial = path.with_name(f".{path.name}.partial")
    sealed = _standing(partial, stage, key)
    if sealed is not None:  # killed between the manifest and the rename
        _replace(partial, path)
        return Artifact(path, sealed.manifest, reused=False)
    started = datetime.now(UTC)
    try:
        _prepare(partial, key)
        start = time.monotonic()
        with PeakMemory() as peak:
            facts = build(Workspace(partial))
        seconds = time.monotonic() - start
        manifest = _seal(
            partial,
            stage=stage,
            key=key,
            settings=settings,
            inputs=inputs,
            seed=seed,
            started=started.isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            peak_memory_bytes=peak.bytes,
            facts=facts,
        )
        _replace(partial, path)
    except MegalithError as error:
        _sweep(partial, keep=error.leaves_whole)
        raise
    except Exception as error:
        limit = limit_reached(error, str(path.parent))
        if limit is None:
            raise
        _sweep(partial, keep=True)
        raise limit from error
    return Artifact(path, manifest, reused=False)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path of this process alone, which becomes `path` when the block ends well.

    A process that is killed leaves it behind, as `.*.tmp`; `produce` sweeps those out of a workspace.
    """
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_artifact(path: Path, stage: str) -> Artifact:
    """Read the whole artifact at `path`.

    Raises InputError where there is none, where it is of another stage, or where a file is missing or has another size.
    """
    where = path / MANIFEST
    if not where.is_file():
        raise InputError(
            f"there is no finished {stage} artifact here.",
            where=str(path),
            mend=f"Run the {stage} stage first.",
        )
    try:
        manifest = Manifest.model_validate_json(where.read_text())
    except (ValidationError, ValueError) as error:
        raise InputError(
            "this manifest cannot be read: it was not written by this version of Megalith, or it is damaged.",
            where=str(where),
            mend="Remove the directory and run the stage again.",
        ) from error
    if manifest.stage != stage:
        raise InputError(f"this is a {manifest.stage} artifact, and a {stage} artifact is wanted.", where=str(path))
    for output in manifest.outputs:
        file = path / output.path
        if not file.is_file() or file.stat().st_size != output.bytes:
            raise InputError(
                f"{output.path} is missing or has been changed since it was written.",
                where=str(path),
                mend=f"Run the {stage} stage again; it will be rebuilt.",
            )
    return Artifact(path, manifest)


def verify(artifact: Artifact) -> None:
    """Read every file of the artifact and compare its SHA-256 with the manifest's. Raises InputError."""
    for output in artifact.manifest.outputs:
        if file_digest(artifact.path / output.path) != output.sha256:
            raise InputError(f"{output.path} has been damaged: its digest is another.", where=str(artifact.path))


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _standing(path: Path, stage: str, key: str) -> Artifact | None:
    """The artifact at `path` if it is whole and of this key."""
    try:
        found = open_artifact(path, stage)
    except InputError:
        return None
    return found if found.manifest.key == key else None


def _prepare(partial: Path, key: str) -> None:
    """Make the workspace, or keep the one that an attempt of the same key left."""
    mark = partial / KEY
    if not mark.is_file() or mark.read_text() != key:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        mark.write_text(key)
    for torn in partial.rglob(".*.tmp"):
        torn.unlink()


def _seal(partial: Path, **said: Any) -> Manifest:
    """Write the manifest into the finished workspace."""
    files = sorted(file for file in partial.rglob("*") if file.is_file() and file.name not in (MANIFEST, KEY))
    outputs = [
        Output(path=file.relative_to(partial).as_posix(), bytes=file.stat().st_size, sha256=file_digest(file))
        for file in files
    ]
    lasting = [(output.path, output.sha256) for output in outputs if not output.path.startswith(f"{LOGS}/")]
    manifest = Manifest(digest=_digest_json(lasting), outputs=outputs, versions=_versions(), **said)
    with Workspace(partial).file(MANIFEST) as path:
        path.write_text(manifest.model_dump_json(indent=1) + "\n")
    (partial / KEY).unlink()
    return manifest


def _replace(partial: Path, path: Path) -> None:
    """Put the finished workspace in its place; an older artifact there makes way."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(partial: Path, *, keep: bool) -> None:
    """Remove what is half-written; the whole workspace if nothing in it is worth keeping."""
    for torn in partial.rglob(".*.tmp"):
        torn.unlink(missing_ok=True)
    finished = [file for file in partial.rglob("*") if file.is_file() and file.name != KEY]
    if not keep or not finished:
        shutil.rmtree(partial, ignore_errors=True)


def _digest_json(value: Json) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("megalith", "torch", "numpy", "daft", "tokenizers"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
