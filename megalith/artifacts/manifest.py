"""`manifest.json`: the request and the files of an artifact, sealed by a digest of its own content."""

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from megalith.errors import InputError
from megalith.input_files import read_json

MANIFEST = "manifest.json"
EXPEDITION = "expedition.json"
"""Beside the artifacts of a finished expedition: its figures, under a seal of their own."""
LOGS = "logs"
SCHEMA = 1
_SEAL = "seal"

Json = Any  # what json.dumps takes; the settings and facts are checked by writing them


class Output(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str

    @property
    def is_log(self) -> bool:
        return self.path.startswith(f"{LOGS}/")


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    stage: str
    key: str
    """Digest of stage, settings, inputs and seed: the same request gives the same key."""
    digest: str
    """Digest of the outputs, logs left out."""
    settings: dict[str, Json]
    inputs: dict[str, str]
    recorded: dict[str, Json] = {}
    """Settings and inputs, by dotted name, that the key leaves out: an artifact stands when they change."""
    machine: dict[str, Json] = {}
    """Processor, threads and the like, on which the last bits of the outputs may depend."""
    outputs: list[Output]
    seed: int
    versions: dict[str, str]
    started: str
    seconds: float
    """Wall time of the attempt that finished."""
    earlier_seconds: float = 0.0
    """Wall time of the attempts before it, each until the last file that it wrote."""
    peak_memory_bytes: int
    """Largest resident memory of the building process and its children."""
    facts: dict[str, Json]
    """The figures that the stage reports; not part of the digest, since they hold times."""
    seal: str = ""
    """Digest of all other fields; manifests of earlier versions have none and are read all the same."""


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with its seal, and return it with that."""
    told = sealed(json.loads(manifest.model_dump_json(exclude={_SEAL})))
    path.write_text(json.dumps(told, indent=1) + "\n")
    return Manifest.model_validate(told)


def sealed(content: Mapping[str, Json]) -> dict[str, Json]:
    """The content of a JSON file with the digest of all its other fields under `seal`."""
    plain = {name: value for name, value in content.items() if name != _SEAL}
    return {**plain, _SEAL: json_digest(plain)}


def is_sealed(content: Mapping[str, Json]) -> bool:
    """False of files of earlier versions."""
    return bool(content.get(_SEAL))


def fits_seal(content: Mapping[str, Json]) -> bool:
    """Whether the content is that which was sealed; True of files of earlier versions, which have no seal."""
    return not is_sealed(content) or sealed(content)[_SEAL] == content[_SEAL]


def check_seal(content: Mapping[str, Json], path: Path, *, mend: str) -> None:
    """Raise InputError where the content of the file at `path` does not fit its seal."""
    if not fits_seal(content):
        raise InputError("this file is damaged: it does not fit its seal.", where=str(path), mend=mend)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the artifact at `directory`.

    Raises InputError where it is missing, cannot be read, or does not fit its seal or the digests in it.
    """
    path = directory / MANIFEST
    try:
        told = read_json(path)
        manifest = Manifest.model_validate(told)
    except (InputError, ValidationError) as error:
        if not path.exists():
            raise InputError("this directory has no manifest.", where=str(directory)) from error
        raise InputError(
            "this manifest cannot be read: it was not written by this version of Megalith, or it is damaged.",
            where=str(path),
            mend=restore(directory),
        ) from error
    if not fits_seal(told) or manifest.digest != outputs_digest(manifest.outputs) or manifest.key != _key_of(manifest):
        raise InputError(
            "this manifest is damaged: it does not fit its own digests.", where=str(path), mend=restore(directory)
        )
    return manifest


def is_ours(path: Path) -> bool:
    """True for an artifact's `manifest.json`, damaged or not; False for another program's."""
    try:
        told = read_json(path)
    except InputError:
        return path.is_file()
    return isinstance(told, dict) and len(told.keys() & Manifest.model_fields.keys()) > 3


def restore(directory: Path) -> str:
    """The mend for a damaged artifact."""
    return (
        f"`megalith verify {directory}` shows every damaged file. Restore it from a copy, or run the stage again with "
        "--fresh, which sets the damaged artifact aside."
    )


def artifact_key(stage: str, settings: Mapping[str, Json], inputs: Mapping[str, str], seed: int) -> str:
    """The digest of a request."""
    return json_digest({"stage": stage, "settings": settings, "inputs": inputs, "seed": seed})


def outputs_digest(outputs: list[Output]) -> str:
    """The digest of an artifact: that of its outputs, logs left out."""
    return json_digest([(output.path, output.sha256) for output in outputs if not output.is_log])


def json_digest(value: Json) -> str:
    """The SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that artifacts depend on."""
    found = {"python": platform.python_version()}
    for package in ("megalith", "torch", "numpy", "daft", "tokenizers"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _key_of(manifest: Manifest) -> str:
    return artifact_key(manifest.stage, manifest.settings, manifest.inputs, manifest.seed)
