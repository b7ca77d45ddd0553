"""Datasets in order of priority, divided into units that are read, and resumed, independently.

A unit names its pieces: whole files, ranges of bytes of plain JSON lines and of gzipped WARC, ranges of row groups of
Parquet; a file may lie behind an address. Small files go together into one unit. How units are cut depends on the
sources alone, so that another number of cores takes up the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.curation.reading import Remote, address_of, find_files, find_remote, open_bytes, title_of
from megalith.errors import InputError
from megalith.input_files import expand, real_path
from megalith.recipe import CurateConfig

FEWEST_BYTES, MOST_BYTES = 1_000_000, 64_000_000
"""Bytes of a unit whose files can be split."""
UNITS = 64
"""So many at least, but for small sources."""
PACKED = 4
"""A compressed file holds about so many times its bytes."""
UNKNOWN_BYTES = 1_000_000_000
"""Assumed bytes of a remote file whose size is not requested: a WARC of Common Crawl."""
CUT_BETWEEN_LINES = (".jsonl", ".ndjson")
CUT_BETWEEN_RECORDS = (".warc.gz", ".wet.gz")

File = Path | Remote


@dataclass(frozen=True)
class Dataset:
    """Documents of one name and one priority: of duplicates, the copy of the dataset that stands first is kept."""

    name: str
    files: tuple[tuple[File, str], ...]
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
    named = {str(Path(path)): name for name, dataset in config.datasets.items() for path in dataset.paths}
    groups: dict[tuple[str, int], list[tuple[File, str]]] = {}
    seen: set[File] = set()
    for place, source in enumerate(sources):
        name = named.get(str(source))
        group = groups.setdefault((name, -1) if name is not None else (_title(source), place), [])
        for file, shown in files_of(source):
            same = real_path(file) if isinstance(file, Path) else file
            if same not in seen:
                seen.add(same)
                group.append((file, shown))
    made = []
    for (name, place), files in groups.items():
        settings = config.datasets[name].model_dump(exclude={"paths", "licence"}) if place < 0 else {}
        if files:
            made.append(Dataset(name, tuple(files), **settings))
    return made


def _title(source: Path) -> str:
    address = address_of(source)
    return real_path(source).name if address is None else title_of(address)


def files_of(source: Path) -> list[tuple[File, str]]:
    """The files of a source, each with its name within it."""
    root = expand(source)
    if address_of(root) is not None:
        return [(file, file.name) for file in find_remote(root)]
    return [(file, str(file.relative_to(root)) if file != root else file.name) for file in find_files(root)]


def model_file(named: str | None, key: str) -> Path | None:
    """The file of a model that a recipe names under `key`, if it names one. Raises InputError where it is not there."""
    if named is None:
        return None
    path = expand(Path(named))
    if not path.is_file():
        raise InputError(f"there is no such model: {path}.", where=key, mend="Name a file that is there.")
    return path


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


def _pieces(file: File, name: str, unit_bytes: int) -> Iterator[tuple[Piece, int]]:
    """Each piece of the file with its size."""
    size = _weight(file)
    length = _length(file)
    if size <= unit_bytes or length is None:
        yield Piece(str(file), name), size
    elif name.lower().endswith((*CUT_BETWEEN_LINES, *CUT_BETWEEN_RECORDS)):
        parts = -(-size // unit_bytes)
        ends = [length * part // parts for part in range(1, parts + 1)]
        for start, stop in zip([0, *ends], ends, strict=False):
            yield Piece(str(file), name, (start, stop)), size // parts
    elif file.suffix.lower() == ".parquet":
        yield from _row_groups(file, name, unit_bytes)
    else:
        yield Piece(str(file), name), size


def _row_groups(file: File, name: str, unit_bytes: int) -> Iterator[tuple[Piece, int]]:
    try:
        with open_bytes(str(file)) as opened:
            about = pq.read_metadata(opened)
    except (pa.ArrowException, OSError):
        yield Piece(str(file), name), _weight(file)  # its reader will say what is wrong
        return
    start = held = 0
    for group in range(about.num_row_groups):
        held += about.row_group(group).total_byte_size
        if held >= unit_bytes or group == about.num_row_groups - 1:
            yield Piece(str(file), name, (start, group + 1)), held
            start, held = group + 1, 0


def _length(file: File) -> int | None:
    return file.stat().st_size if isinstance(file, Path) else file.bytes


def _weight(file: File) -> int:
    length = _length(file)
    return (UNKNOWN_BYTES if length is None else length) * (
        PACKED if file.suffix.lower() in (".gz", ".zst", ".lz4") else 1
    )
