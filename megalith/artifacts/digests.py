"""Comparing the files of an artifact with the digests in its manifest.

A file is read once: its SHA-256 is remembered with its inode, size and times in a cache of the user's, one file for
each artifact, and read again when one of these has changed. The cache may be lost or damaged at any time; then files
are read again. A change within the grain of the file system's clock would not show in the times, so a file that was
written just before it was read is not remembered.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.artifacts.files import whole
from megalith.artifacts.manifest import LOGS, MANIFEST, Manifest, Output, is_ours, read_manifest, restore
from megalith.console import human_bytes, progress
from megalith.errors import InputError
from megalith.input_files import real_path

WHOLE, MISSING, DAMAGED, ADDED = "ok", "missing", "damaged", "not in the manifest"
_GRAIN_NS = 100_000_000  # coarser than the clock of any file system that counts nanoseconds
_SMALL_BYTES = 65_536  # as quickly read as looked up
_SHOW_BYTES = 1_000_000_000  # reading less takes about a second
_THREADS = 4
_KEPT_DAYS = 90
_IGNORED = (".DS_Store", ".nfs")

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times in nanoseconds of the last change of content and of inode."""


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(paths: Sequence[Path]) -> dict[Path, str]:
    """The SHA-256 of files anywhere; one that has not changed since an earlier call is not read again.

    Raises InputError where one cannot be read.
    """
    made: dict[Path, str] = {}
    for folder in dict.fromkeys(path.parent for path in paths):
        known, unread = _recall(folder), []
        for path in (each for each in paths if each.parent == folder):
            now, kept = identity(path), known.get(path.name)
            if now is not None and isinstance(kept, list) and kept[:-1] == [*now]:
                made[path] = kept[-1]
            else:
                unread.append(path.name)
        read = read_files(folder, unread)
        remember(folder, read)
        for name, one in read.items():
            if one.identity is None:
                raise InputError(f"this file cannot be read: {one.sha256}.", where=str(folder / name))
            made[folder / name] = one.sha256
    return made


def check_files(directory: Path, manifest: Manifest, part: str = "") -> None:
    """Compare the outputs, logs left out, with their digests; of a `part`, what lies at or below it.

    Raises InputError that names the first file that is missing, damaged or not listed.
    """
    fault = first_fault(directory, manifest, part)
    if fault:
        raise InputError(f"{fault}.", where=str(directory), mend=restore(directory))


def check_part(path: Path) -> None:
    """Compare a file or folder directly within an artifact with its manifest. What lies elsewhere passes.

    Raises InputError as `check_files` does, and where the manifest is damaged.
    """
    directory = path.absolute().parent
    if is_ours(directory / MANIFEST):
        check_files(directory, read_manifest(directory), path.name)


def first_fault(directory: Path, manifest: Manifest, part: str = "") -> str:
    """The first fault of the outputs in words, or nothing."""
    outputs = [o for o in manifest.outputs if (part or not o.is_log) and _is_within(o.path, part)]
    if part and not outputs:
        return f"{part} {ADDED}"
    for output, state in zip(outputs, file_states(directory, outputs), strict=True):
        if state == MISSING:
            return f"{output.path} is missing"
        if state != WHOLE:
            return f"{output.path} has been changed since it was written ({state})"
    added = [name for name in added_files(directory, manifest) if _is_within(name, part)]
    return f"{added[0]} has been added since the artifact was written" if added else ""


def file_states(directory: Path, outputs: Sequence[Output], *, remembered: bool = True) -> list[str]:
    """The state of each output; without `remembered` every file is read."""
    known = _recall(directory) if remembered else {}
    found = [_at_a_glance(identity(directory / output.path), output, known) for output in outputs]
    unread = [output.path for output, state in zip(outputs, found, strict=True) if state is None]
    read = read_files(directory, unread)
    if remembered:
        remember(directory, read)
    return [
        state or (WHOLE if read[output.path].sha256 == output.sha256 else DAMAGED)
        for output, state in zip(outputs, found, strict=True)
    ]


def added_files(directory: Path, manifest: Manifest) -> list[str]:
    """Files that stand in the artifact and that its manifest does not list, logs left out."""
    listed = {output.path for output in manifest.outputs} | {MANIFEST}
    found = (file.relative_to(directory).as_posix() for file in sorted(directory.rglob("*")) if not file.is_dir())
    return [
        name
        for name in found
        if name not in listed and not name.startswith(f"{LOGS}/") and not Path(name).name.startswith(_IGNORED)
    ]


@dataclass(frozen=True)
class Read:
    """A file's digest, and what the file system said of it before it was read."""

    sha256: str
    identity: Identity | None
    at_ns: int


def read_files(directory: Path, names: Sequence[str]) -> dict[str, Read]:
    """Read and digest files, which may be gone or unreadable. Large work shows a progress bar."""
    total = sum((directory / name).stat().st_size for name in names if (directory / name).is_file())
    with ExitStack() as stack:
        bar = stack.enter_context(progress()) if total >= _SHOW_BYTES else None
        task = bar.add_task(f"checking {directory.name} ({human_bytes(total)})", total=len(names)) if bar else None
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS))
        made = {}
        for name, read in zip(names, threads.map(_read, [directory / name for name in names]), strict=True):
            made[name] = read
            if bar and task is not None:
                bar.advance(task)
        return made


def remember(directory: Path, read: Mapping[str, Read]) -> None:
    """Keep digests that have just been read. What cannot be kept is read again another time."""
    entries = {
        name: [*one.identity, one.sha256]
        for name, one in read.items()
        if one.identity is not None
        and one.identity[2] >= _SMALL_BYTES
        and one.at_ns - max(one.identity[3:]) > _GRAIN_NS
        and one.identity == identity(directory / name)
    }
    place = _place(directory)
    if not entries or place is None:
        return
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole(place) as temporary:
            temporary.write_text(json.dumps({**_recall(directory), **entries}))
        _forget_old(place.parent)


def _at_a_glance(now: Identity | None, output: Output, known: Mapping[str, Any]) -> str | None:
    """The state where it is known without reading the file, else None."""
    if now is None:
        return MISSING
    if now[2] != output.bytes:
        return f"{now[2]:,} bytes, not {output.bytes:,}"
    return WHOLE if known.get(output.path) == [*now, output.sha256] else None


def identity(path: Path) -> Identity | None:
    """The identity of a file, or None where no file stands."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) if path.is_file() else None


def _read(path: Path) -> Read:
    before, now = identity(path), time.time_ns()
    try:
        return Read(file_digest(path), before, now)
    except OSError as error:
        return Read(f"unreadable: {error.strerror}", None, now)


def _is_within(name: str, part: str) -> bool:
    return not part or name == part or name.startswith(f"{part}/")


def _place(directory: Path) -> Path | None:
    """The cache file of an artifact; None where this user has no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    name = hashlib.sha256(os.fsencode(real_path(directory.absolute()))).hexdigest()
    return home / "megalith" / "digests" / f"{name[:32]}.json"


def _recall(directory: Path) -> dict[str, Any]:
    place = _place(directory)
    try:
        known = json.loads(place.read_text()) if place else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _forget_old(folder: Path) -> None:
    """Remove what has not been written for a season: of artifacts that are gone, mostly."""
    oldest = time.time() - _KEPT_DAYS * 86400
    for file in (*folder.glob("*.json"), *folder.glob(".*.tmp")):
        if file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)
