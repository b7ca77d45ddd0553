"""`megalith verify`: every file of an artifact, or of all artifacts of an expedition, read and compared."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from megalith.artifacts.digests import ADDED, DAMAGED, WHOLE, added_files, file_states
from megalith.artifacts.manifest import EXPEDITION, MANIFEST, fits_seal, is_ours, is_sealed, read_manifest
from megalith.errors import InputError
from megalith.input_files import read_json

UNSEALED = "ok (unsealed: an earlier version wrote it)"


@dataclass(frozen=True)
class FileState:
    """One file of an artifact as it is now."""

    path: str
    bytes: int
    """As the manifest says."""
    state: str
    """`ok`, or what is wrong."""

    @property
    def is_whole(self) -> bool:
        return self.state in (WHOLE, UNSEALED)


@dataclass(frozen=True)
class Verified:
    """One artifact as it is now; `stage` is empty where the manifest cannot be read."""

    path: Path
    stage: str
    files: tuple[FileState, ...]

    @property
    def damaged(self) -> list[FileState]:
        return [file for file in self.files if not file.is_whole]


def verify(directory: Path) -> list[Verified]:
    """Read every file of the artifact at `directory`, or of each artifact in it, logs and manifests too.

    A finished expedition's own file of figures is the first.

    No cache is used. Raises InputError where no artifact stands.
    """
    places = [directory] if (directory / MANIFEST).is_file() else sorted(directory.glob(f"*/{MANIFEST}"))
    found = [place if place.is_dir() else place.parent for place in places]
    artifacts = [place for place in found if is_ours(place / MANIFEST)]
    beside = [_expedition(directory)] if (directory / EXPEDITION).is_file() else []
    if not artifacts and not beside:
        raise InputError(
            "neither an artifact nor an expedition stands here.",
            where=str(directory),
            mend="Name a stage's directory, or the directory of an expedition.",
        )
    return [*beside, *(_verified(place) for place in artifacts)]


def _expedition(directory: Path) -> Verified:
    """The file of figures that a finished expedition has beside its artifacts."""
    path = directory / EXPEDITION
    state = DAMAGED
    with contextlib.suppress(InputError):
        told = read_json(path)
        if isinstance(told, dict) and fits_seal(told):
            state = WHOLE if is_sealed(told) else UNSEALED
    return Verified(directory, "expedition", (FileState(EXPEDITION, path.stat().st_size, state),))


def _verified(place: Path) -> Verified:
    size = (place / MANIFEST).stat().st_size
    try:
        manifest = read_manifest(place)
    except InputError:
        return Verified(place, "", (FileState(MANIFEST, size, DAMAGED),))
    found = zip(manifest.outputs, file_states(place, manifest.outputs, remembered=False), strict=True)
    return Verified(
        place,
        manifest.stage,
        (
            FileState(MANIFEST, size, WHOLE if manifest.seal else UNSEALED),
            *(FileState(output.path, output.bytes, state) for output, state in found),
            *(FileState(name, (place / name).lstat().st_size, ADDED) for name in added_files(place, manifest)),
        ),
    )
