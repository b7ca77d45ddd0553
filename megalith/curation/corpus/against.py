"""Artifacts that stand already, and that new documents must not duplicate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from megalith.artifacts import MANIFEST, Artifact, open_artifact, read_manifest
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition
from megalith.curation.corpus.documents import partitions_of
from megalith.curation.decide import fill
from megalith.errors import InputError
from megalith.input_files import expand
from megalith.ngrams.sorted_sets import among, different
from megalith.recipe import CurateConfig


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


def fill_earlier(columns: Columns, artifacts: Sequence[Earlier], dropped: int) -> None:
    """Fill the columns of earlier documents; those that were not kept get the reason `dropped`."""
    for earlier in artifacts:
        kept = _kept(earlier.curated) if earlier.curated else None
        for place, partition in enumerate(columns.partitions):
            if partition.dataset == EARLIER and partition.documents == earlier.documents.path:
                fill(columns, place, partition)
                span = columns.span(place)
                gone = columns.bytes[span] == 0
                if kept is not None:
                    gone |= ~among(_names(columns.identity[span]), kept)
                columns.reason[span.start + np.flatnonzero(gone)] = dropped


def _kept(curated: Artifact) -> Array:
    """The ids of the documents it kept, ascending, pieces by the id of the whole."""
    found = [np.zeros(0, "S16")]
    for output in curated.manifest.outputs:
        if output.path.startswith(("train/", "validation/")):
            ids = pq.read_table(curated.path / output.path, columns=["id"])["id"].to_pylist()
            found.append(np.frombuffer(bytes.fromhex("".join(name[:32] for name in ids)), "S16"))
    return different(np.concatenate(found))


def _names(identity: Array) -> Array:
    return np.frombuffer(identity.astype(">u8").tobytes(), "S16")
