"""Embeddings of the documents that stand: the artifact from which semantic duplicates are decided.

They are float16, a row a document in the order of ids, in one file that is read as memory: 2 bytes a number, 768 a
document at a width of 384; while they are made, twice that. Only this file is the artifact, so that another threshold
or number of clusters embeds nothing again. Each worker holds the model.
"""

import functools
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from megalith.artifacts import Artifact, Workspace, produce, whole
from megalith.curation.corpus.document_table import Array
from megalith.curation.corpus.table import Table, standing
from megalith.curation.engine import Task, Told, spread
from megalith.errors import InputError
from megalith.input_files import expand
from megalith.recipe import SemanticConfig

VERSION = 1
STEP = "semantic"
EMBEDDINGS = "embeddings.f16"
TASK_DOCUMENTS = 512
"""Embedded in one task: what a kill loses of each worker."""
EMBEDDING_COSTS = 1000
"""Times what reading the same text costs: so little text is worth a process more."""


class Embedder(Protocol):
    """A model that embeds texts: `inference.embedder.Embedder`."""

    digests: Mapping[str, str]

    @property
    def width(self) -> int:
        """Numbers of an embedding."""

    def embed(self, texts: Sequence[str], tokens: int) -> Array:
        """Embeddings (texts, width) of length 1."""


Open = Callable[[Path], Embedder]
"""A function of a module: workers call it too."""


@dataclass(frozen=True)
class SemanticModel:
    """A model that can be opened, and has been."""

    path: Path
    open: Open
    width: int
    digests: Mapping[str, str]


def semantic_model(config: SemanticConfig, open_embedder: Open | None) -> SemanticModel | None:
    """The model that `curate.semantic` names, if it names one.

    Raises InputError where it is missing, is damaged or lacks its tokenizer.
    """
    if config.model is None:
        return None
    path = expand(Path(config.model))
    if not path.exists():
        raise InputError(
            f"there is no such model: {path}.", where="curate.semantic.model", mend="Name one that is on this machine."
        )
    opening = open_embedder or _open_ours
    opened = opening(path)
    return SemanticModel(path, opening, opened.width, opened.digests)


def _open_ours(path: Path) -> Embedder:
    from megalith.inference.embedder import load_embedder

    return load_embedder(path)


@dataclass(frozen=True)
class Standing:
    """The documents that nothing has dropped, those of earlier artifacts among them, in the order of their ids."""

    rows: Array
    """Their rows in the table, int64 (documents,)."""
    records: Array


def standing_in_order(table: Table) -> Standing:
    """Gather the documents that stand, from all chunks."""
    rows, records = [], []
    for chunk in table.chunks:
        found = table.records(chunk.number)
        places = standing(found)
        rows.append(chunk.base + places)
        records.append(found[places])
    held = np.concatenate(records)
    high, low = held["identity"].T
    order = np.lexsort((held["copy"], low, high))
    return Standing(np.concatenate(rows).astype(np.int64)[order], held[order])


def embed_documents(
    path: Path, table: Table, documents: Standing, model: SemanticModel, config: SemanticConfig, told: Told
) -> Artifact:
    """The embeddings of the documents that stand, at `path`."""
    ids = np.column_stack([documents.records["identity"], documents.records["copy"]]).astype("<u8")

    def build(workspace: Workspace) -> Mapping[str, Any]:
        parts = workspace.path / "parts"
        if not (workspace.path / EMBEDDINGS).is_file():  # whole, of a run that was killed right after
            embed(workspace, parts)
        shutil.rmtree(parts, ignore_errors=True)  # all that is in them stands in that file
        return {"documents": len(ids), "width": model.width}

    def embed(workspace: Workspace, parts: Path) -> None:
        parts.mkdir(exist_ok=True)
        by_row = np.argsort(documents.rows)  # as they lie in files
        tasks: list[Task] = []
        for start in range(0, len(by_row), TASK_DOCUMENTS):
            some = by_row[start : start + TASK_DOCUMENTS]
            name = hashlib.sha256(ids[some].tobytes()).hexdigest()[:24]
            tasks.append({"number": len(tasks), "name": name, "rows": documents.rows[some].tolist()})
        work = EmbedPiece(str(parts), table, str(model.path), model.open, config.tokens)
        size = int(documents.records["bytes"].sum(dtype=np.int64))
        for _ in spread(work, tasks, size * EMBEDDING_COSTS, told):
            pass
        with workspace.file(EMBEDDINGS) as file:
            made = np.memmap(file, np.float16, "w+", shape=(len(by_row), model.width))
            for task in tasks:
                first = task["number"] * TASK_DOCUMENTS
                found = np.fromfile(parts / f"{task['name']}.f16", np.float16)
                made[by_row[first : first + TASK_DOCUMENTS]] = found.reshape(-1, model.width)
            made.flush()
            del made

    return produce(
        path,
        stage=STEP,
        settings={"tokens": config.tokens, "version": VERSION},
        inputs={"texts": hashlib.sha256(ids.tobytes()).hexdigest()}
        | {f"model {name}": digest for name, digest in sorted(model.digests.items())},
        seed=0,  # nothing is drawn
        build=build,
    )


@dataclass(frozen=True)
class EmbedPiece:
    """Embeds some documents, unless that has been done."""

    parts: str
    table: Table
    model: str
    open: Open
    tokens: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        path = Path(self.parts) / f"{task['name']}.f16"
        if path.is_file():
            return {}
        rows = np.array(task["rows"], np.int64)
        texts = [text for _, some in self.table.batches(rows, ["text"]) for text in some["text"].to_pylist()]
        made = _opened(self.open, Path(self.model)).embed(texts, self.tokens)
        with whole(path) as temporary:
            made.astype(np.float16).tofile(temporary)
        return {}


@functools.lru_cache(maxsize=1)
def _opened(open_embedder: Open, path: Path) -> Embedder:
    return open_embedder(path)


@dataclass(frozen=True)
class Points:
    """The file of embeddings."""

    path: str
    count: int
    width: int

    @property
    def array(self) -> Array:
        """(count, width), read when it is looked at."""
        return np.memmap(self.path, np.float16, "r", shape=(self.count, self.width))
