"""What is read: datasets in order of their priority, cut into units that are read, and resumed, each on its own.

A unit names its pieces: whole files, ranges of bytes of plain JSON lines, ranges of row groups of Parquet. Small files
go together into one unit. How units are cut depends on the sources alone, so that another number of cores takes up the
same ones.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.curation.read import find_sources
from megalith.errors import InputError
from megalith.recipe import CurateConfig

FEWEST_BYTES, MOST_BYTES = 1_000_000, 64_000_000
"""Of a unit, where its files can be cut."""
UNITS = 64
"""So many at least, but for small sources."""
PACKED = 4
"""A compressed file holds about so many times its bytes."""


@dataclass(frozen=True)
class Dataset:
    """Documents of one name and one priority: of duplicates, the copy of the dataset that stands first is kept."""

    name: str
    files: tuple[tuple[Path, str], ...]
    """Each with its name within its source."""
    language: bool = True
    heuristics: bool = True
    quality: bool = True
    """Which filters its documents must pass."""
    corpus: bool = True
    """Or else it is there to learn from alone."""


@dataclass(frozen=True)
class Piece:
    """A file, or the range of it that `read_documents` calls its part."""

    path: str
    name: str
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Unit:
    """Pieces of one dataset, read as one task."""

    number: int
    dataset: int
    pieces: tuple[Piece, ...]

    @property
    def task(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @staticmethod
    def of(task: Any) -> "Unit":
        pieces = tuple(
            Piece(piece["path"], piece["name"], tuple(piece["part"]) if piece["part"] else None)
            for piece in task["pieces"]
        )
        return Unit(task["number"], task["dataset"], pieces)


def datasets_of(sources: Sequence[Path], config: CurateConfig) -> list[Dataset]:
    """The datasets that `sources` make up, in order.

    A source that the recipe names under `curate.datasets` belongs to that one and takes its filters; any other is a
    dataset of its own, by the last part of its path, and takes every filter. A file that is in two is of the first.
    """
    named = {path: name for name, dataset in config.datasets.items() for path in dataset.paths}
    groups: dict[tuple[str, int], list[tuple[Path, str]]] = {}
    seen: set[Path] = set()
    for place, source in enumerate(sources):
        name = named.get(str(source))
        group = groups.setdefault((name, -1) if name is not None else (source.resolve().name, place), [])
        for file, shown in files_of(source):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                group.append((file, shown))
    made = []
    for (name, place), files in groups.items():
        settings = config.datasets[name].model_dump(exclude={"paths"}) if place < 0 else {}
        if files:
            made.append(Dataset(name, tuple(files), **settings))
    return made


def files_of(source: Path) -> list[tuple[Path, str]]:
    """The files of a source, each with its name within it."""
    root = expand(source)
    return [(file, str(file.relative_to(root)) if file != root else file.name) for file in find_sources([root])]


def expand(path: Path) -> Path:
    """The path with `$NAME` and `~` filled in. Raises InputError where there is no such variable."""
    filled = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - pathlib knows no variables
    if "$" in filled:
        raise InputError(f"{path} names a variable that is not set.", where="curate", mend="Set it and try again.")
    return Path(filled)


def units_of(datasets: Sequence[Dataset]) -> list[Unit]:
    """The units of all datasets, numbered."""
    unit_bytes = min(MOST_BYTES, max(FEWEST_BYTES, weight(datasets) // UNITS))
    made: list[Unit] = []
    for number, dataset in enumerate(datasets):
        held: list[Piece] = []
        held_bytes = 0
        for file, name in dataset.files:
            for piece, size in _pieces(file, name, unit_bytes):
                if held and held_bytes + size > unit_bytes:
                    made.append(Unit(len(made), number, tuple(held)))
                    held, held_bytes = [], 0
                held.append(piece)
                held_bytes += size
        if held:
            made.append(Unit(len(made), number, tuple(held)))
    return made


def weight(datasets: Sequence[Dataset]) -> int:
    """How many bytes there are to read, about."""
    return sum(_weight(file) for dataset in datasets for file, _ in dataset.files)


def _pieces(file: Path, name: str, unit_bytes: int) -> Iterator[tuple[Piece, int]]:
    """Each piece of the file with its size."""
    size = _weight(file)
    if size <= unit_bytes:
        yield Piece(str(file), name), size
    elif file.suffix.lower() in (".jsonl", ".ndjson"):
        ends = [size * part // -(-size // unit_bytes) for part in range(1, -(-size // unit_bytes) + 1)]
        for start, stop in zip([0, *ends], ends, strict=False):
            yield Piece(str(file), name, (start, stop)), stop - start
    elif file.suffix.lower() == ".parquet":
        yield from _row_groups(file, name, unit_bytes)
    else:
        yield Piece(str(file), name), size


def _row_groups(file: Path, name: str, unit_bytes: int) -> Iterator[tuple[Piece, int]]:
    try:
        about = pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        yield Piece(str(file), name), _weight(file)  # its reader will say what is wrong
        return
    start = held = 0
    for group in range(about.num_row_groups):
        held += about.row_group(group).total_byte_size
        if held >= unit_bytes or group == about.num_row_groups - 1:
            yield Piece(str(file), name, (start, group + 1)), held
            start, held = group + 1, 0


def _weight(file: Path) -> int:
    return file.stat().st_size * (PACKED if file.suffix.lower() in (".gz", ".zst", ".lz4") else 1)
