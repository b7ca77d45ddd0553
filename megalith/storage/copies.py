"""Artifacts and models behind an address, through a copy on this machine that is as their manifest says.

The copy lies in the user's cache under the artifact's digest: it is fetched once, whichever address it has. Each file
is compared with the digest in the manifest before it gets its name, and again when it is used. A model without a
manifest, such as one that was imported, is copied under its address and the tags of its files.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath

import filelock

from megalith.artifacts import MANIFEST, Manifest, Output, file_states, read_manifest, whole
from megalith.console import human_bytes, progress
from megalith.errors import InputError, ResourceError
from megalith.storage.addresses import join, parent, refuse_secrets, scheme_of, storage_address
from megalith.storage.ranges import is_missing, open_ranges
from megalith.storage.store import Object, Store

PIECE_BYTES = 1 << 23
MOST_MANIFEST_BYTES = 1 << 26
_SHOW_BYTES = 100_000_000
_WITHOUT_A_LIST = ("config.json", "tokenizer.json", "model.safetensors")
_PERHAPS = ("generation.json",)
_KINDS = (".json", ".safetensors", ".txt", ".model", ".jinja", ".md")


def local_copy(place: Path | str, part: str = "") -> Path:
    """The directory itself, or a copy of the one behind an address, on this machine.

    Of an artifact that has files below `part`, these alone are fetched, and whatever of them is missing in the copy.
    Raises InputError where nothing is there or a file is not what the manifest says, ResourceError where it cannot be
    fetched.
    """
    address = storage_address(place)
    if address is None:
        return Path(place)
    refuse_secrets(address)
    address = address.rstrip("/")
    content = fetch_bytes(join(address, MANIFEST))
    if content is not None:
        manifest = _read(address, content)
        return _artifact(address, content, manifest, _below(manifest, part) or _outputs(manifest))
    above, name = parent(address)
    content = fetch_bytes(join(above, MANIFEST)) if above else None
    if content is not None:
        manifest = _read(above, content)
        if wanted := _below(manifest, name):
            return _artifact(above, content, manifest, wanted) / name
    return _plain(address)


def fetch_bytes(address: str, most: int = MOST_MANIFEST_BYTES) -> bytes | None:
    """The content of a small file, or None where it is missing. Raises ResourceError where it cannot be had."""
    try:
        ranges = open_ranges(address)
    except InputError:
        return None
    except ResourceError as error:
        if is_missing(error):
            return None
        raise
    try:
        if ranges.size > most:
            raise InputError(f"this file is larger than {most:,} bytes.", where=address)
        return ranges.read(0, ranges.size) if ranges.size else b""
    finally:
        ranges.close()


def fetch_file(address: str, target: Path, output: Output | None = None) -> None:
    """Copy a file to `target`, whole or not at all.

    Raises InputError where it is not `output`, with its size and digest, or changes meanwhile, or where the bytes that
    came are fewer than it has.
    """
    ranges = open_ranges(address)
    digest, size = hashlib.sha256(), ranges.size
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if output is not None and size != output.bytes:
            raise _differs(address, f"{size:,} bytes, and {output.bytes:,} are wanted")
        with whole(target) as temporary, temporary.open("wb") as file:
            for start in range(0, size, PIECE_BYTES):
                piece = ranges.read(start, min(start + PIECE_BYTES, size))
                digest.update(piece)
                file.write(piece)
            file.flush()
            if output is not None and digest.hexdigest() != output.sha256:
                raise _differs(address, "other content than its digest says")
    finally:
        ranges.close()


def cache_folder() -> Path:
    """Where copies lie: MEGALITH_CACHE, or a folder of the user's cache."""
    named = os.environ.get("MEGALITH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megalith" / "copies"


def _outputs(manifest: Manifest) -> list[Output]:
    return [output for output in manifest.outputs if not output.is_log]


def _below(manifest: Manifest, part: str) -> list[Output]:
    return [output for output in manifest.outputs if part and output.path.startswith(f"{part}/")]


def _artifact(address: str, content: bytes, manifest: Manifest, wanted: Sequence[Output]) -> Path:
    copy = cache_folder() / "artifacts" / manifest.digest
    for output in wanted:
        if output.path.startswith("/") or ".." in PurePosixPath(output.path).parts:
            raise InputError(f"its manifest names a file outside of it: {output.path}.", where=address)
    with _alone(copy):
        if not (copy / MANIFEST).is_file() or (copy / MANIFEST).read_bytes() != content:
            copy.mkdir(parents=True, exist_ok=True)
            with whole(copy / MANIFEST) as temporary:
                temporary.write_bytes(content)
        _fetch_missing(address, copy, wanted)
    return copy


def _fetch_missing(address: str, copy: Path, wanted: Sequence[Output]) -> None:
    states = file_states(copy, wanted)
    lacking = [output for output, state in zip(wanted, states, strict=True) if state != "ok"]
    total = sum(output.bytes for output in lacking)
    with progress() if total >= _SHOW_BYTES else nullcontext() as bar:
        task = bar.add_task(f"fetching {human_bytes(total)}", total=total) if bar else None
        for output in lacking:
            fetch_file(join(address, output.path), copy / output.path, output)
            if bar and task is not None:
                bar.advance(task, output.bytes)


def _read(address: str, content: bytes) -> Manifest:
    """The manifest behind an address. Raises InputError, which names the address, where it is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(content)
        try:
            return read_manifest(Path(folder))
        except InputError as error:
            raise InputError(error.what, where=join(address, MANIFEST), mend="Push the artifact again.") from error


@contextmanager
def _alone(copy: Path) -> Iterator[None]:
    """Wait until no other process fetches this copy."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(copy.with_name(f".{copy.name}.lock")):
        yield


def _plain(address: str) -> Path:
    """A copy of files without a manifest: complete once it has its name."""
    files = _files(address)
    told = "\n".join([address, *(f"{file.name} {file.bytes} {file.tag}" for file in files)])
    copy = cache_folder() / "models" / hashlib.sha256(told.encode()).hexdigest()
    with _alone(copy):
        if copy.is_dir():
            return _single(copy, address)
        partial = copy.with_name(f"{copy.name}.partial")
        for file in files:
            fetch_file(file.address, partial / file.name)
        if _files(address) != files:
            raise InputError("these files changed while they were read.", where=address, mend="Try again.")
        partial.rename(copy)
    return _single(copy, address)


def _single(copy: Path, address: str) -> Path:
    """The file itself where the address is one's."""
    name = parent(address)[1]
    return copy / name if name.endswith(".gguf") else copy


def _files(address: str) -> list[Object]:
    """The files of a model behind an address: those that lie directly in it, or of https:// those that ours has."""
    above, name = parent(address)
    if scheme_of(address) in ("https", "http"):
        found: list[Object] = []
        for name in (*_WITHOUT_A_LIST, *_PERHAPS):
            try:
                ranges = open_ranges(join(address, name))
            except ResourceError as error:
                if is_missing(error) and (name in _PERHAPS or not found):
                    continue
                raise
            found.append(Object(join(address, name), name, ranges.size, ranges.tag))
            ranges.close()
    elif name.endswith(".gguf"):
        found = [file for file in [Store(above).look(name)] if file is not None]
    else:
        found = [file for file in Store(address).objects() if _is_of_a_model(file.name)]
    if not found:
        raise InputError(
            "neither an artifact nor a model is here.",
            where=address,
            mend="Name the folder with manifest.json, or with config.json; `megalith push` puts one there.",
        )
    return found


def _is_of_a_model(name: str) -> bool:
    """Whether a file among others is one that a model is read from: no pickles, no other frameworks' weights."""
    return "/" not in name and (Path(name).suffix in _KINDS or name.startswith(("LICENSE", "LICENCE")))


def _differs(address: str, what: str) -> InputError:
    return InputError(
        f"this file has {what}: it is damaged, or was pushed in part.",
        where=address,
        mend="Push the artifact again, to another address.",
    )
