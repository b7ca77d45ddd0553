"""A split of the corpus cut into parts that are encoded, and resumed, each on its own; then joined in their order.

How a split is cut depends on its files alone. A part leaves a pair of shards for each data set, all of them before the
mark that says so: one that was killed is encoded anew, and what any number of workers make is the same to the byte.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from megalith.artifacts import Workspace
from megalith.errors import InputError
from megalith.tokens.encoders import Encode
from megalith.tokens.shards import ShardWriter, shard_paths

FOLDER = ".parts"
_PART_BYTES = 32_000_000  # of text, but for larger row groups
_ROWS_READ = 32  # a book may have a megabyte
_BATCH_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Piece:
    """Some row groups of a Parquet file."""

    file: str
    first: int
    after: int


@dataclass(frozen=True)
class Part:
    """Pieces that are encoded as one task."""

    name: str
    pieces: tuple[Piece, ...]
    datasets: tuple[str, ...]
    """Each gets shards of its own; none: all documents go into one."""

    def prefix(self, folder: Path, dataset: int) -> Path:
        """Its shards of one data set."""
        return folder / FOLDER / f"{self.name}-{dataset}"

    def mark(self, folder: Path) -> Path:
        """The file that stands once all of its shards do."""
        return folder / FOLDER / f"{self.name}.json"

    def as_json(self) -> dict[str, Any]:
        """As `part_of` reads it."""
        return asdict(self)


def part_of(told: dict[str, Any]) -> Part:
    """The part that `as_json` told."""
    return Part(told["name"], tuple(Piece(**piece) for piece in told["pieces"]), tuple(told["datasets"]))


def cut_parts(split: str, files: Sequence[Path], datasets: Sequence[str]) -> list[Part]:
    """The parts of a split, in the order of its documents."""
    parts: list[Part] = []
    pieces: list[Piece] = []
    held = 0

    def end() -> None:
        nonlocal held
        if pieces:
            parts.append(Part(f"{split}-{len(parts):06d}", tuple(pieces), tuple(datasets)))
        pieces.clear()
        held = 0

    for file in files:
        for group, size in enumerate(_group_sizes(file)):
            if pieces and held + size > _PART_BYTES:
                end()
            if pieces and pieces[-1].file == str(file):
                pieces[-1] = Piece(str(file), pieces[-1].first, group + 1)
            else:
                pieces.append(Piece(str(file), group, group + 1))
            held += size
    end()
    return parts


def encode_part(part: Part, folder: Path, encode: Encode, vocab_size: int) -> None:
    """Write the shards of a part, then its mark, into the workspace at `folder`.

    Raises InputError where a file is damaged.
    """
    workspace = Workspace(folder)
    with contextlib.ExitStack() as stack:
        writers = []
        for dataset in range(max(1, len(part.datasets))):
            bin_path, idx_path = shard_paths(part.prefix(folder, dataset).relative_to(folder))
            idx, binary = (stack.enter_context(workspace.file(str(path))) for path in (idx_path, bin_path))
            writers.append(stack.enter_context(ShardWriter(binary, idx, vocab_size)))
        for texts, sources in _batches(part):
            ids, lengths = encode(texts)
            if not part.datasets:
                writers[0].add_batch(ids, lengths)
                continue
            owners = np.array([part.datasets.index(source) for source in sources])
            for dataset in np.unique(owners).tolist():
                chosen = owners == dataset
                writers[dataset].add_batch(ids[np.repeat(chosen, lengths)], lengths[chosen])
    with workspace.file(str(part.mark(folder).relative_to(folder))) as path:
        path.write_text(json.dumps(part.as_json()))


def join_parts(workspace: Workspace, name: str, parts: Sequence[Part], dataset: int, vocab_size: int) -> None:
    """Write `name`.bin and .idx of what the parts have of one data set, and remove it there. The index comes last."""
    with (
        workspace.file(f"{name}.idx") as idx_path,
        workspace.file(f"{name}.bin") as bin_path,
        ShardWriter(bin_path, idx_path, vocab_size) as writer,
    ):
        for part in parts:
            writer.add_shards(part.prefix(workspace.path, dataset))
    for part in parts:
        for path in shard_paths(part.prefix(workspace.path, dataset)):
            path.unlink(missing_ok=True)


def first_texts(parts: Sequence[Part], most: int) -> list[str]:
    """Some texts of each of `most` parts that lie evenly spread."""
    step = max(1, len(parts) // most)
    texts = []
    for part in parts[::step]:
        for batch in read_batches([part.pieces[0]], ["text"]):
            texts += batch.column("text").to_pylist()
            break
    return texts


def read_batches(pieces: Sequence[Piece], columns: list[str]) -> Iterator[Any]:
    """Record batches of some columns. Raises InputError where a file is no Parquet, or lacks a column."""
    for piece in pieces:
        with _readable(Path(piece.file)), pq.ParquetFile(piece.file) as parquet:
            lacking = [column for column in columns if column not in parquet.schema_arrow.names]
            if lacking:
                raise InputError(f"this Parquet file has no column {lacking[0]!r}.", where=piece.file)
            groups = list(range(piece.first, piece.after))
            yield from parquet.iter_batches(_ROWS_READ, row_groups=groups, columns=columns)


def whole_file(file: Path) -> Piece:
    """All row groups of a file."""
    with _readable(file), pq.ParquetFile(file) as parquet:
        return Piece(str(file), 0, parquet.num_row_groups)


def _batches(part: Part) -> Iterator[tuple[list[str], list[str]]]:
    """The texts of a part and where they come from, in order, a few megabytes at a time."""
    texts: list[str] = []
    sources: list[str] = []
    characters = 0
    for batch in read_batches(part.pieces, ["text", "source"] if part.datasets else ["text"]):
        new = batch.column("text").to_pylist()
        sources += batch.column("source").to_pylist() if part.datasets else []
        texts += new
        characters += sum(map(len, new))
        if characters >= _BATCH_CHARACTERS:
            yield texts, sources
            texts, sources, characters = [], [], 0
    if texts:
        yield texts, sources


def _group_sizes(file: Path) -> list[int]:
    """Bytes of text of each row group, before compression."""
    with _readable(file), pq.ParquetFile(file) as parquet:
        column = parquet.schema_arrow.names.index("text")
        groups = (parquet.metadata.row_group(group) for group in range(parquet.num_row_groups))
        return [group.column(column).total_uncompressed_size for group in groups]


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"this file cannot be read as Parquet: {' '.join(str(error).split())}",
            where=str(file),
            mend="Run the curate stage again.",
        ) from error
