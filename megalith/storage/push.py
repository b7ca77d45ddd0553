"""Putting a finished artifact into a store: its files, and the manifest last.

Whoever reads looks for the manifest first, so that an artifact which is only half there does not exist. One that stands
there is never changed: the same one is left as it is, another one is refused.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megalith.artifacts import EXPEDITION, MANIFEST, check_files, is_ours, read_manifest
from megalith.console import progress
from megalith.errors import InputError
from megalith.storage.addresses import join
from megalith.storage.copies import fetch_bytes
from megalith.storage.store import Store

_BESIDE = (EXPEDITION, "report.html")
"""Files of an expedition's directory that follow its artifacts."""


@dataclass(frozen=True)
class Pushed:
    """An artifact in a store."""

    address: str
    stage: str
    digest: str
    files: int
    bytes: int
    stood: bool
    """Whether it stood there already."""


def push(directory: Path, address: str) -> list[Pushed]:
    """Put the artifact at `directory`, or each artifact of an expedition, under `address`, and return where they are.

    An artifact goes to the address itself, those of an expedition to folders of their names. Raises InputError where no
    artifact stands here, one is damaged, or another one stands there; ResourceError where the store cannot be written.
    """
    store = Store(address)
    store.refuse_reading_only()
    if (directory / MANIFEST).is_file():
        return [_push(directory, store)]
    artifacts = [path.parent for path in sorted(directory.glob(f"*/{MANIFEST}")) if is_ours(path)]
    if not artifacts:
        raise InputError(
            "neither an artifact nor an expedition stands here.",
            where=str(directory),
            mend="Name a stage's directory, or the directory of an expedition.",
        )
    made = [_push(path, Store(join(store.address, path.name))) for path in artifacts]
    for name in _BESIDE:
        if (directory / name).is_file():
            store.write(directory / name, name)
    return made


def _push(directory: Path, store: Store) -> Pushed:
    manifest = read_manifest(directory)
    check_files(directory, manifest)
    names = [output.path for output in manifest.outputs if (directory / output.path).is_file()]
    content = (directory / MANIFEST).read_bytes()
    size = sum((directory / name).stat().st_size for name in names)
    stands = _standing(store, manifest.digest)
    if not stands:
        _write(directory, store, names)
        with tempfile.NamedTemporaryFile() as sealed:  # as it was read, whatever happens to the file meanwhile
            sealed.write(content)
            sealed.flush()
            store.write(Path(sealed.name), MANIFEST)
    return Pushed(store.address, manifest.stage, manifest.digest, len(names), size, stands)


def _standing(store: Store, digest: str) -> bool:
    """True where this artifact stands there. Raises InputError where another one does."""
    content = fetch_bytes(join(store.address, MANIFEST))
    if content is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(content)
        try:
            stands = read_manifest(Path(folder)).digest
        except InputError:
            stands = ""
    if stands != digest:
        raise InputError(
            "another artifact stands there." if stands else "a manifest stands there that cannot be read.",
            where=store.address,
            mend="Name another address; nothing is replaced in a store.",
        )
    return True


def _write(directory: Path, store: Store, names: Sequence[str]) -> None:
    with progress() as bar:
        task = bar.add_task(f"Pushing {directory.name}", total=len(names))
        for name in names:
            store.write(directory / name, name)
            bar.advance(task)
