"""Artifacts that stand already, and that new documents must not duplicate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from megalith.artifacts import MANIFEST, Artifact, open_artifact, read_manifest
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition
from megalith.curation.corpus.documents import partitions_of
from megalith.errors import InputError
from megalith.input_files import expand
from megalith.ngrams.sorted_sets import among
from megalith.recipe import CurateConfig

IDS = 1 << 20
"""Ids of an earlier artifact, held at a time."""


@dataclass(frozen=True)
class Earlier:
    """The documents of an earlier artifact, and what of them it kept (all, if that is none)."""

    documents: Artifact
    curated: Artifact | None

    @property
    def digest(self) -> str:
        return self.documents.digest + (self.curated.digest if self.curated else "")

    @property
    def partitions(self) -> list[Partition]:
        return partitions_of(self.documents, EARLIER)


def open_earlier(config: CurateConfig) -> list[Earlier]:
    """The artifacts of `curate.against`. Raises InputError where one is missing or was signed in another way."""
    made = []
    for place in config.against:
        path = expand(Path(place))
        stage = read_manifest(path).stage if (path / MANIFEST).is_file() else "curate"
        curated = None if stage == "documents" else open_artifact(path, "curate")
        documents = open_artifact(path if curated is None else path.parent / curated.facts["documents"], "documents")
        if curated is not None and curated.manifest.inputs.get("documents") != documents.digest:
            raise InputError(
                f"{documents.path.name} is not what this corpus was decided on.",
                where=f"curate.against: {place}",
                mend="Restore both from one copy, or run `megalith curate` there again.",
            )
        ours = config.minhash.signed_by
        theirs = documents.manifest.settings["minhash"]
        if ours != theirs:
            said = ", ".join(f"{name}={value}" for name, value in theirs.items())
            raise InputError(
                f"the documents there were signed with {said}, and cannot be compared.",
                where=f"curate.against: {place}",
                mend="Set the same values under curate.minhash.",
            )
        made.append(Earlier(documents, curated))
    return made


@dataclass(frozen=True)
class Kept:
    """The ids that an earlier artifact kept of these documents: files of ascending ids; none if all count."""

    documents: str
    files: tuple[str, ...] | None


def write_kept(artifacts: Sequence[Earlier], folder: Path) -> tuple[Kept, ...]:
    """List what earlier artifacts kept, in files under a folder."""
    made = []
    for number, earlier in enumerate(artifacts):
        files = None
        if earlier.curated:
            files = tuple(
                str(_list(earlier.curated, split, folder / f"kept-{number}-{split}"))
                for split in ("train", "validation")
            )
        made.append(Kept(str(earlier.documents.path), files))
    return tuple(made)


def gone(columns: Columns, span: slice, partition: Partition, earlier: Sequence[Kept]) -> Array:
    """The rows of an earlier partition (of its span) that have no text or were not kept."""
    lost = columns.bytes[span] == 0
    ids = _names(columns.identity[span])
    for one in earlier:
        if one.files is not None and one.documents == str(partition.documents):
            lost = lost | ~_among(ids, one.files)
    return np.flatnonzero(lost)


def _list(curated: Artifact, split: str, path: Path) -> Path:
    """Write the ids of a split, which is in their order; pieces have the id of the whole."""
    with path.open("wb") as file:
        for output in sorted(one.path for one in curated.manifest.outputs if one.path.startswith(f"{split}/")):
            for batch in pq.ParquetFile(curated.path / output).iter_batches(columns=["id"]):
                file.write(bytes.fromhex("".join(name[:32] for name in batch["id"].to_pylist())))
    return path


def _among(ids: Array, files: Sequence[str]) -> Array:
    """Which of the ids stand in one of the files."""
    order = np.argsort(ids)
    ordered = ids[order]
    found = np.zeros(len(ids), bool)
    for file in files:
        for start in range(0, Path(file).stat().st_size, IDS * 16):
            held = np.fromfile(file, "S16", IDS, offset=start)
            first = int(np.searchsorted(ordered, held[0], side="left"))
            last = int(np.searchsorted(ordered, held[-1], side="right"))
            found[order[first:last]] |= among(ordered[first:last], held)
    return found


def _names(identity: Array) -> Array:
    return np.frombuffer(identity.astype(">u8").tobytes(), "S16")
