"""Reads documents from what the user gives: crawls, lines or arrays of JSON, tables, text and pages, also compressed.

The file lies here or behind an address. One document is held at a time. What cannot be read (a broken line, a record of
another kind) is counted by its reason and passed over, so that documents and reasons add up to the records of a file.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from megalith.curation.reading.document import Document, Part, Reader, Source
from megalith.curation.reading.how import AS_IT_IS, How
from megalith.curation.reading.json_records import read_json
from megalith.curation.reading.opening import PACKED
from megalith.curation.reading.parquet import read_parquet
from megalith.curation.reading.remote import address_of, name_of
from megalith.curation.reading.tables import read_arrow, read_csv
from megalith.curation.reading.texts import read_html, read_text
from megalith.curation.reading.warc import read_arc, read_warc
from megalith.errors import InputError

KINDS = (
    "WARC, WET, ARC, JSON (.jsonl, .ndjson, .json), Parquet, Arrow (.arrow, .feather), .csv, .tsv, .txt, .md and "
    ".html, also .gz, .zst, .bz2 and .xz"
)


def read_documents(source: Source, counts: Counter[str], part: Part = None, how: How = AS_IT_IS) -> Iterator[Document]:
    """The documents of one file that `find_files` or `find_remote` returned, or of a part of it where it can be cut.

    `counts` takes the number of `records` (of whatever kind), and of those passed over by reason: `not_html`,
    `not_found` (an HTTP status other than 200), `truncated`, `damaged`, `too_long`, `bad_line`, `no_text`, … These and
    the documents add up to the records; what is in `document.BESIDE` is counted beside.

    Raises InputError where the file cannot be read, ResourceError where it does not come over the network.
    """
    place = address_of(source) or Path(source)
    reader = reader_of(name_of(place))
    if reader is None:
        raise InputError("this is not a kind of file that is read.", where=str(place), mend=f"Use {KINDS}.")
    try:
        yield from reader(place, counts, part, how)
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror or error}.", where=str(place)) from error


def reader_of(name: str) -> Reader | None:
    """Return the reader for files of such a name."""
    suffix = kind_of(name)
    return None if suffix is None else _READERS[suffix]


def kind_of(name: str) -> str | None:
    """The ending by which a file of this name is read, without that of its compression; None where it is not read."""
    name = name.lower()
    packed = next((ending for ending in PACKED if name.endswith(ending)), None)
    bare = name.removesuffix(packed or "")
    kind = next((suffix for suffix in _READERS if bare.endswith(suffix)), None)
    if packed == ".lz4":
        return kind if kind == ".warc" else None
    return None if packed and kind in _NEVER_PACKED else kind


_NEVER_PACKED = (".parquet", ".arrow", ".feather")
_READERS: dict[str, Reader] = {
    ".warc": read_warc,
    ".wet": read_warc,
    ".arc": read_arc,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_text,
    ".md": read_text,
    ".html": read_html,
    ".htm": read_html,
}
