"""Datasets in order of priority, divided into units that are read, and resumed, independently.

A unit names its pieces: whole files, ranges of the content of JSON lines and of the bytes of gzipped WARC, ranges of
row groups of Parquet; a file may lie behind an address. Small files go together into one unit. How units are cut
depends on the sources alone, so that another number of cores takes up the same ones.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.curation.reading import (
    AS_IT_IS,
    ENDLESS,
    How,
    Remote,
    address_of,
    find,
    find_remote,
    measured,
    open_bytes,
    title_of,
)
from megalith.errors import InputError, MegalithError, UnsupportedError
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
FEW_FILES = 20
"""The long texts of a data set of fewer files are cut into passages."""
CUT_BETWEEN_LINES = (".jsonl", ".ndjson")
CUT_BETWEEN_RECORDS = (".warc.gz", ".wet.gz")
CUT_AS_UNPACKED = tuple(f"{lines}{packed}" for lines in CUT_BETWEEN_LINES for packed in (".gz", ".zst", ".zstd"))
MOST_PARTS = {".gz": 8, ".zst": 16}
"""Parts of compressed lines, by how they are compressed. Each unpacks all that stands before it: so many together take
an eighth more time of a core than one, where a core curates 7 MB/s and unpacks 290 (gzip) or 550 (zstd)."""

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
    how: How = AS_IT_IS
    """How its files are read."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files of its directories are not read, by their kind."""
    most_documents: int | None = None
    """The most that are kept of those that pass all filters."""


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
    titles = _titles([source for source in sources if str(source) not in named], set(named.values()))
    groups: dict[str, list[tuple[File, str]]] = {}
    passed_over: dict[str, Counter[str]] = {}
    seen: set[File] = set()
    taken: set[tuple[str, str]] = set()
    wrong: list[MegalithError] = []
    for source in sources:
        name = named.get(str(source)) or titles[str(source)]
        group = groups.setdefault(name, [])
        try:
            found = files_of(source, how_of(config, name))
        except (InputError, UnsupportedError) as error:
            wrong.append(error)
            continue
        passed_over.setdefault(name, Counter()).update(found.passed_over)
        for file, shown in found.files:
            same = real_path(file) if isinstance(file, Path) else file
            if same not in seen:
                seen.add(same)
                shown = next(one for one in _spellings(source, shown) if (name, one) not in taken)
                taken.add((name, shown))
                group.append((file, shown))
    if wrong:
        raise together(wrong)
    made = []
    for name, files in groups.items():
        if not files:
            continue
        settings = config.datasets[name].model_dump(include=set(FILTERS)) if name in config.datasets else {}
        how = replace(how_of(config, name), few=len(files) < FEW_FILES)
        made.append(Dataset(name, tuple(files), how=how, passed_over=dict(passed_over[name]), **settings))
    return made


def _spellings(source: Path, name: str) -> Iterator[str]:
    """Names for a file within its data set, of which other sources may have a file of the same name."""
    yield name
    yield f"{source.name}/{name}"
    yield from (f"{source.name}/{name} ({number})" for number in itertools.count(2))


FILTERS = ("language", "heuristics", "quality", "most_documents")
"""Settings of a data set in the recipe that are fields of it here."""


def how_of(config: CurateConfig, name: str | None = None) -> How:
    """How the files of a data set are read: as it says itself, or else as the section says."""
    own = config.datasets.get(name) if name is not None else None

    def said(key: str) -> Any:
        value = getattr(own, key) if own is not None else None
        return getattr(config, key) if value is None else value

    return How(
        said("text_field"),
        said("url_field"),
        said("id_field"),
        said("metadata"),
        said("text_separator"),
        said("passage_characters"),
        plain_text_pages=said("plain_text_pages"),
    )


def together(errors: Sequence[MegalithError]) -> MegalithError:
    """One error that tells all of them."""
    if len(errors) == 1:
        return errors[0]
    first, *others = errors
    also = " ".join(f"Also: {error.where}: {error.what}" for error in others[:9])
    more = f" And {len(others) - 9} more." if len(others) > 9 else ""
    return type(first)(f"{first.what} {also}{more}", where=first.where, mend=first.mend)


def _titles(sources: Sequence[Path], taken: set[str]) -> dict[str, str]:
    """A name for each source: the last part of its path, with as many before it as tell it from the others."""
    distinct = list(dict.fromkeys(map(str, sources)))
    paths = {one: _title_parts(Path(one)) for one in distinct}
    made: dict[str, str] = {}
    for one, parts in paths.items():
        others = [other for name, other in paths.items() if name != one and other != parts]
        made[one] = next(
            (
                title
                for count in range(1, len(parts) + 1)
                if (title := "/".join(parts[-count:])) not in taken
                and all("/".join(other[-count:]) != title for other in others)
            ),
            "/".join(parts),
        )
    return made


def _title_parts(source: Path) -> tuple[str, ...]:
    address = address_of(source)
    if address is None:
        return tuple(part for part in real_path(expand(source)).parts if part != "/")
    return (*str(address).partition("?")[0].split("/")[2:-1], title_of(address))


class Files(NamedTuple):
    """The files of a source, each with its name within it, and how many were passed over by their kind."""

    files: list[tuple[File, str]]
    passed_over: Mapping[str, int]


def files_of(source: Path, how: How) -> Files:
    """The files of a source."""
    root = expand(source)
    if address_of(root) is not None:
        return Files([(file, file.name) for file in find_remote(root)], {})
    found = find(root, how)
    within = root if root.is_dir() else None
    return Files(
        [(file, str(file.relative_to(within)) if within else file.name) for file in found.files], found.passed_over
    )


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
        for part in _parts(length, parts):
            yield Piece(str(file), name, part), size // parts
    elif name.lower().endswith(CUT_AS_UNPACKED) and isinstance(file, Path):
        kind, content = measured(file)
        parts = max(1, min(-(-content // unit_bytes), content if kind is None else MOST_PARTS.get(kind, 1)))
        for start, stop in _parts(content, parts):
            yield Piece(str(file), name, (start, ENDLESS if stop == content else stop)), content // parts
    elif file.suffix.lower() == ".parquet":
        yield from _row_groups(file, name, unit_bytes)
    else:
        yield Piece(str(file), name), size


def _parts(length: int, parts: int) -> Iterable[tuple[int, int]]:
    """So many ranges of about the same length."""
    ends = [length * part // parts for part in range(1, parts + 1)]
    return zip([0, *ends], ends, strict=False)


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
        PACKED if file.suffix.lower() in (".gz", ".zst", ".zstd", ".bz2", ".xz", ".lz4") else 1
    )
