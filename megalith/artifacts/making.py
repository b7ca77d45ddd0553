"""Making an artifact once: reuse what stands, go on from what is half-made, keep what was long in the making."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from megalith.artifacts.digests import check_files, first_fault, read_files, remember
from megalith.artifacts.files import sweep, sync
from megalith.artifacts.fresh import aside_of, may_set_aside
from megalith.artifacts.manifest import (
    LOGS,
    MANIFEST,
    Json,
    Manifest,
    Output,
    outputs_digest,
    read_manifest,
    restore,
    versions,
    write_manifest,
)
from megalith.artifacts.request import (
    KEY,
    STAGE_VERSION,
    UNTOLD,
    Request,
    differences,
    finished_files,
    key_of,
    listed,
    read_mark,
    recorded_differences,
    request_of,
    seconds_spent,
    write_mark,
)
from megalith.artifacts.workspace import Artifact, Workspace
from megalith.console import note
from megalith.errors import InputError, MegalithError, RecipeError
from megalith.memory import PeakMemory
from megalith.system_limits import limit_reached

Mend = Callable[..., str | None]
LONG_SECONDS = 60.0
"""Work that took longer is never replaced unless the caller says so."""


def produce(
    path: Path,
    *,
    stage: str,
    settings: Mapping[str, Json],
    inputs: Mapping[str, str],
    seed: int,
    build: Callable[[Workspace], Mapping[str, Json]],
    recorded: Mapping[str, Json] | None = None,
    machine: Mapping[str, Json] | None = None,
    precious: bool = False,
    mend: Mend | None = None,
) -> Artifact:
    """Return the artifact at `path`, building it unless one of the same settings, inputs and seed stands there whole.

    The result depends on `settings` (a section of the recipe) and `inputs` (the digest of each by name). `recorded` has
    settings (`train.micro_batch_size`) and inputs (`inputs.modules`) that make no other artifact of it, `machine` what
    else its last bits depend on; both are written into the manifest. `build` fills the workspace and returns the facts.
    Files that it finds there were left by an earlier attempt of the same request; they must have been written through
    `Workspace.file` or an equal care.

    An artifact of other settings or inputs, or a damaged one, is made anew with a line that says so, unless it took
    longer than a minute or is `precious`: then it is refused (RecipeError, InputError), or within `set_aside` renamed
    when the new one is whole. The same holds of a half-made one. `mend` says what to do about a refusal by the keys
    that differ (and the name that the old one would be kept by), or None for the usual words.

    Raises whatever `build` raises. Then, what was half-written is removed; finished pieces stay for the next attempt if
    the error's kind says they are worth keeping. A full disk, or another limit of the
    machine, is raised as ResourceError.
    """
    asked = Request(stage, settings, inputs, seed, recorded or {})
    partial = path.with_name(f".{path.name}.partial")
    _recover(path, partial)
    standing = _standing(path, asked, precious=precious, mend=mend)
    if standing is not None:
        return standing
    sealed = _sealed(partial, asked)
    if sealed is not None:
        _replace(partial, path, precious=precious)
        return Artifact(path, sealed, reused=False)
    started = datetime.now(UTC)
    with _in_words(path):
        spent = _prepare(partial, path, asked, precious=precious, mend=mend)
    with _in_words(path), _cleaned(partial):
        start = time.monotonic()
        with PeakMemory() as peak:
            facts = build(Workspace(partial))
        said = {
            "stage": stage,
            "key": asked.key,
            "settings": settings,
            "inputs": inputs,
            "recorded": asked.recorded,
            "machine": machine or {},
            "seed": seed,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 3),
            "earlier_seconds": round(spent, 3),
            "peak_memory_bytes": peak.bytes,
            "facts": facts,
        }
        manifest = _seal_and_replace(partial, path, said, precious=precious)
    return Artifact(path, manifest, reused=False)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Raise a full disk, or another limit of the machine, as ResourceError."""
    try:
        yield
    except MegalithError:
        raise
    except Exception as error:
        told = limit_reached(error, str(path.parent))
        if told is None:
            raise
        raise told from error


@contextmanager
def _cleaned(partial: Path) -> Iterator[None]:
    """Remove what an error left half-written, and the whole workspace if nothing in it is worth keeping."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MegalithError) or limit_reached(error):
            sweep(partial, deep=True)
            keeps = error.leaves_whole if isinstance(error, MegalithError) else True
            if not keeps or not finished_files(partial):
                shutil.rmtree(partial, ignore_errors=True)
        raise


def _recover(path: Path, partial: Path) -> None:
    """End a replacement that a kill cut short: the new artifact takes its place, or else the old one is put back."""
    old = _old(path)
    if (partial / MANIFEST).is_file():
        (partial / KEY).unlink(missing_ok=True)
    if not path.exists():
        if (partial / MANIFEST).is_file():
            partial.rename(path)
        elif old.exists():
            old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _standing(path: Path, asked: Request, *, precious: bool, mend: Mend | None) -> Artifact | None:
    """The artifact at `path` if it is what is asked, and None if a new one may take its place."""
    if not path.exists() or _is_empty(path):
        return None
    try:
        manifest = read_manifest(path)
    except InputError as error:
        if may_set_aside():
            return None
        away = error.mend or f"Move it away, or pass --fresh, which keeps it as {aside_of(path).name}."
        raise InputError(error.what, where=error.where, mend=away) from error
    made = request_of(manifest)
    changes = _changes(made, asked)
    recorded = recorded_differences(made, asked)
    keeps = _is_worth_keeping(path, precious=precious)
    if not changes and not (recorded and may_set_aside()):
        fault = first_fault(path, manifest)
        if not fault:
            if recorded:
                note(f"{path.name}: it stands, though {listed(recorded)}; --fresh makes it anew")
            return Artifact(path, manifest)
        if keeps and not may_set_aside():
            raise InputError(f"{fault}.", where=str(path), mend=restore(path))
        note(f"{path.name}: made anew, since {fault}")
        return None
    if keeps and not may_set_aside():
        raise _refusal(path, path, f"this {made.stage} artifact was made", changes, mend)
    note(f"{path.name}: made anew, since {listed(changes or recorded)}")
    return None


def _sealed(partial: Path, asked: Request) -> Manifest | None:
    """The manifest of a workspace that a kill kept from its place, if it is what is asked."""
    if not (partial / MANIFEST).is_file():
        return None
    try:
        manifest = read_manifest(partial)
        check_files(partial, manifest)
    except InputError:
        return None
    return None if _changes(request_of(manifest), asked) else manifest


def _prepare(partial: Path, path: Path, asked: Request, *, precious: bool, mend: Mend | None) -> float:
    """Make the workspace, or keep the one that an attempt of the same request left; returns the seconds spent on it.

    One of another request is removed if little was in it, else refused or set aside.
    """
    begun = read_mark(partial)
    spent = seconds_spent(partial, begun) if begun else 0.0
    sweep(partial, deep=True)
    changes = [] if begun else ["it bears no mark"]
    if begun and begun.key != asked.key:
        changes = _changes(begun.request, asked) if begun.request else [UNTOLD]
    if (partial / MANIFEST).is_file() and not changes:  # else it would stand by now
        changes = ["it is damaged"]
    if changes:
        if finished_files(partial):
            _make_way(partial, path, changes, spent, precious=precious, mend=mend)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        spent = 0.0
    elif begun and begun.request and (recorded := recorded_differences(begun.request, asked)):
        note(f"{path.name}: it goes on from where it was, though {listed(recorded)}")
    write_mark(partial, asked, spent)
    return spent


def _make_way(
    partial: Path, path: Path, changes: list[str], spent: float, *, precious: bool, mend: Mend | None
) -> None:
    """Refuse to lose a half-made artifact that is worth something, or set it aside if the caller allows it."""
    made = any(file.relative_to(partial).parts[0] != LOGS for file in finished_files(partial))
    if not (precious and made) and spent <= LONG_SECONDS:
        note(f"{path.name}: what was half-made is begun anew, since {listed(changes)}")
        return
    if not may_set_aside():
        raise _refusal(partial, path, f"this half-made {path.name} was begun", changes, mend)
    aside = aside_of(path)
    partial.rename(aside)
    note(f"{path.name}: what was half-made is kept as {aside.name}, since {listed(changes)}")


def _refusal(where: Path, path: Path, what: str, changes: list[str], mend: Mend | None) -> MegalithError:
    aside = aside_of(path).name
    told = mend([key_of(change) for change in changes], aside=aside) if mend else None
    fresh = f"ass --fresh, which keeps the old one as {aside}."
    if all(change.startswith(("inputs.", STAGE_VERSION, UNTOLD)) for change in changes):
        return InputError(f"{what} from other inputs: {listed(changes)}.", where=str(where), mend=told or f"P{fresh}")
    usual = f"Set it back, or p{fresh}"
    return RecipeError(f"{what} with other settings: {listed(changes)}.", where=str(where), mend=told or usual)


def _changes(made: Request, asked: Request) -> list[str]:
    stage = [f"the stage was {made.stage} and is {asked.stage} now"] if made.stage != asked.stage else []
    return stage + differences(made, asked)


def _is_worth_keeping(path: Path, *, precious: bool) -> bool:
    """True for work that must not be removed; a directory that cannot be read may be anything."""
    if precious or not path.is_dir():
        return True
    try:
        manifest = read_manifest(path)
    except InputError:
        return not _is_empty(path)
    return manifest.seconds + manifest.earlier_seconds > LONG_SECONDS


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _seal_and_replace(partial: Path, path: Path, said: dict[str, Json], *, precious: bool) -> Manifest:
    """Write the manifest into the finished workspace and put it in its place."""
    names = sorted(
        file.relative_to(partial).as_posix()
        for file in partial.rglob("*")
        if file.is_file() and file.name not in (MANIFEST, KEY)
    )
    read = read_files(partial, names)
    outputs = [
        Output(path=name, bytes=(partial / name).stat().st_size, sha256=one.sha256) for name, one in read.items()
    ]
    manifest = Manifest(digest=outputs_digest(outputs), outputs=outputs, versions=versions(), **said)
    with Workspace(partial).file(MANIFEST) as file:
        manifest = write_manifest(file, manifest)
    (partial / KEY).unlink()
    _replace(partial, path, precious=precious)
    remember(path, read)
    return manifest


def _replace(partial: Path, path: Path, *, precious: bool) -> None:
    """Put the finished workspace in its place; an older artifact there makes way."""
    old = _old(path)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists() and not _is_empty(path) and _is_worth_keeping(path, precious=precious):
        aside = aside_of(path)
        path.rename(aside)
        note(f"{path.name}: the old one is kept as {aside.name}")
    elif path.exists():
        path.rename(old)
    partial.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
