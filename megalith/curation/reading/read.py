"""Reads documents from what the user gives: WARC, WET, ARC, JSON lines, Parquet, text, HTML; plain or compressed.

The file lies here or behind an address. One document is held at a time. What cannot be read (a broken line, a record of
another kind) is counted by its reason and passed over; only a file of which nothing can be used is an error.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from megalith.curation.reading.opening import Source, open_bytes, open_file
from megalith.curation.reading.remote import address_of, name_of
from megalith.curation.reading.warc import MAXIMUM_BYTES, Document, Part, read_arc, read_warc
from megalith.errors import InputError, UnsupportedError

KINDS = "WARC, WET, ARC, JSON lines (.jsonl), Parquet, .txt, .md and .html, also .gz and .zst"
TEXT_FIELDS = ("text", "content")
PARQUET_ROWS = 256

Reader = Callable[[Source, Counter[str], Part], Iterator[Document]]


def find_files(source: Path) -> list[Path]:
    """The file itself, or those of a directory that are of a kind that is read, in the order of their names.

    Addresses are for `find_remote`. Raises InputError for a source that is missing, of no known kind, or a directory
    with nothing to read.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(source)):
        raise UnsupportedError(
            "this kind of address is not read.",
            where=str(source),
            mend="Give https://, http:// or s3://, or download it and name the file.",
        )
    if source.is_dir():
        return _inside(source)
    if not source.exists():
        raise InputError("there is no such file or directory.", where=str(source))
    if not source.is_file():
        raise InputError("this is a pipe or a device, not a regular file.", where=str(source), mend="Name a file.")
    if reader_of(source.name) is None:
        raise InputError("this is not a kind of file that is read.", where=str(source), mend=f"Give {KINDS}.")
    return [source]


def read_documents(source: Source, counts: Counter[str], part: Part = None) -> Iterator[Document]:
    """The documents of one file that `find_files` or `find_remote` returned, or of a part of it where it can be cut.

    `counts` takes the number of `records` (of whatever kind), and of those passed over by reason: `not_html`,
    `not_found` (an HTTP status other than 200), `truncated`, `damaged`, `too_long`, `bad_line`, `no_text`, …

    Raises InputError where the file cannot be read or nothing in it can be used, ResourceError where it does not come
    over the network.
    """
    place = address_of(source) or Path(source)
    reader = reader_of(name_of(place))
    if reader is None:
        raise InputError("this is not a kind of file that is read.", where=str(place), mend=f"Give {KINDS}.")
    try:
        yield from reader(place, counts, part)
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror or error}.", where=str(place)) from error


def _inside(directory: Path) -> list[Path]:
    found = []
    ignored: Counter[str] = Counter()
    for file in sorted(directory.rglob("*")):
        name = str(file.relative_to(directory))
        if not file.is_file() or _is_hidden(name):
            continue
        if is_data(name):
            if any(0xDC80 <= ord(character) <= 0xDCFF for character in name):  # daft takes names as text
                raise InputError("the name of this file is not UTF-8.", where=str(file), mend="Rename it.")
            found.append(file)
        else:
            ignored[file.suffix or "(none)"] += 1
    if not found:
        others = ", ".join(f"{number} × {suffix}" for suffix, number in ignored.most_common(5))
        raise InputError(
            f"nothing in this directory is of a kind that is read{f' ({others})' if others else ''}.",
            where=str(directory),
            mend=f"Give {KINDS}.",
        )
    return found


def is_data(name: str) -> bool:
    """Whether a file of this name, among others, is read. A .json beside data is nearly always about the data."""
    return not _is_hidden(name) and reader_of(name) is not None and not name.endswith(".json")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def reader_of(name: str) -> Reader | None:
    """What reads files of such a name."""
    name = name.lower()
    for ending in (".gz", ".zst", ".lz4"):
        bare = name.removesuffix(ending)
        if bare != name:
            break
    if name.endswith(".lz4"):
        return _READERS[".warc"] if bare.endswith(".warc") else None
    return next((reader for suffix, reader in _READERS.items() if bare.endswith(suffix)), None)


def _read_json_lines(path: Source, counts: Counter[str], part: Part) -> Iterator[Document]:
    read = 0
    for line in _whole(_lines(path, counts, part), counts):
        if not line.strip():
            continue
        counts["records"] += 1
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):  # also bytes that are not UTF-8, and brackets without end
            fields = None
        if not isinstance(fields, dict):
            counts["bad_line"] += 1
            continue
        text = next((fields[name] for name in TEXT_FIELDS if isinstance(fields.get(name), str)), None)
        if text is None:
            counts["no_text"] += 1
            continue
        read += 1
        yield Document(url=_url(fields), text=text)
    if not read and part is None:
        raise no_usable_line(path)


def no_usable_line(source: Source) -> InputError:
    """Of a file of JSON lines; of one that is read in parts only who reads them all can tell."""
    return InputError(
        "no line of this file can be used.",
        where=str(source),
        mend='Each line is one JSON object with the document in "text" (or "content"), and a "url" if you like.',
    )


def _url(fields: dict[str, Any]) -> str | None:
    """The URL wherever the common corpora put it; an id names the document just as well."""
    inner: dict[str, Any] = next(
        (fields[name] for name in ("meta", "metadata") if isinstance(fields.get(name), dict)), {}
    )
    for value in (fields.get("url"), inner.get("url"), fields.get("id")):
        if isinstance(value, (str, int)):
            return str(value)
    return None


def _read_parquet(path: Source, counts: Counter[str], part: Part) -> Iterator[Document]:
    with open_bytes(path) as opened:
        try:
            file = pq.ParquetFile(opened)
        except pa.ArrowException as error:
            said = str(error).splitlines()[0]
            raise InputError(f"this is not a whole Parquet file: {said}", where=str(path)) from error
        columns = file.schema_arrow.names
        text = next((name for name in TEXT_FIELDS if name in columns), None)
        if text is None:
            raise InputError(
                f"there is no column of text among {', '.join(columns)}.",
                where=str(path),
                mend="Name the column with the documents `text` (or `content`).",
            )
        url = next((name for name in ("url", "id") if name in columns), None)
        for group in range(*part) if part else range(file.num_row_groups):
            try:
                for batch in file.iter_batches(PARQUET_ROWS, [group], [name for name in (text, url) if name]):
                    addresses = _values(batch[url]) if url else [None] * len(batch)
                    for value, address in zip(_values(batch[text]), addresses, strict=True):
                        counts["records"] += 1
                        if isinstance(value, str):
                            yield Document(url=None if address is None else str(address), text=value)
                        else:
                            counts["no_text"] += 1
            except (pa.ArrowException, OSError):  # the other row groups may be whole
                counts["damaged"] += 1


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; what is not UTF-8 in them is replaced."""
    try:
        return cast(list[Any], column.to_pylist())
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", errors="replace") for value in raw]


def _read_text(path: Source, counts: Counter[str], _: Part) -> Iterator[Document]:
    for content in _content(path, counts):
        yield Document(url=None, text=content.decode("utf-8-sig", errors="replace"))


def _read_html(path: Source, counts: Counter[str], _: Part) -> Iterator[Document]:
    for content in _content(path, counts):
        yield Document(url=None, html=content)


def _content(path: Source, counts: Counter[str]) -> Iterator[bytes]:
    """All of a file's bytes, if there are some and not too many."""
    counts["records"] += 1
    content = bytearray()
    with open_file(path) as file:
        for piece in _whole(iter(lambda: file.read(1 << 20), b""), counts):
            content += piece
            if len(content) > MAXIMUM_BYTES:
                counts["too_long"] += 1
                return
    if content.strip():
        yield bytes(content)
    else:
        counts["no_text"] += 1


def _lines(path: Source, counts: Counter[str], part: Part) -> Iterator[bytes]:
    """The lines, but for those that are too long to be a document's."""
    with open_file(path) as file:
        start, stop = part or (0, None)
        if start:
            file.seek(start - 1)
            _pass_line(file)
        while (stop is None or file.tell() < stop) and (line := file.readline(MAXIMUM_BYTES + 1)):
            if len(line) > MAXIMUM_BYTES and not line.endswith(b"\n"):
                _pass_line(file)
                counts["records"] += 1
                counts["too_long"] += 1
            else:
                yield line


def _pass_line(file: BinaryIO) -> None:
    while (piece := file.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass


def _whole(pieces: Iterator[bytes], counts: Counter[str]) -> Iterator[bytes]:
    """The pieces up to where a compressed file is cut off or damaged; that is counted."""
    try:
        yield from pieces
    except EOFError:
        counts["truncated"] += 1
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError):
        counts["damaged"] += 1


_READERS: dict[str, Reader] = {
    ".warc": read_warc,
    ".wet": read_warc,
    ".arc": lambda path, counts, _: read_arc(path, counts),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
}
