"""Reads documents from what the user gives: WARC, WET, ARC, JSON lines, Parquet, text, HTML; plain or compressed.

The file lies here or behind an address. One document is held at a time. What cannot be read (a broken line, a record of
another kind) is counted by its reason and passed over; only a file of which nothing can be used is an error.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from megalith.curation.reading.opening import Source, open_bytes, open_file
from megalith.curation.reading.remote import address_of, name_of
from megalith.curation.reading.warc import MAXIMUM_BYTES, Document, Part, read_arc, read_warc
from megalith.errors import InputError, UnsupportedError

KINDS = "WARC, WET, ARC, JSON lines (.jsonl), Parquet, .txt, .md and .html, also .gz and .zst"
TEXT_FIELDS = ("text", "content")
PARQUET_ROWS, PARQUET_BYTES = 256, 16_000_000
"""Unpacked at once, at most, as the file says how long its rows are on average."""
DICTIONARY_BYTES, PAGE_BYTES = 1 << 28, 1 << 29
"""At most, if each row were the longest in the dictionary; of one page, which is unpacked whole."""
LONG_BYTES = 1_000_000
"""Equal texts so long are counted together: one value may not stand for more than MAXIMUM_BYTES of a row group."""

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
            mend="Use https://, http://, s3://, gs:// or hf://, or download it and name the file.",
        )
    if source.is_dir():
        return _inside(source)
    if not source.exists():
        raise InputError("there is no such file or directory.", where=str(source))
    if not source.is_file():
        raise InputError("this is a pipe or a device, not a regular file.", where=str(source), mend="Name a file.")
    if reader_of(source.name) is None:
        raise InputError("this is not a kind of file that is read.", where=str(source), mend=f"Use {KINDS}.")
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
        raise InputError("this is not a kind of file that is read.", where=str(place), mend=f"Use {KINDS}.")
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
            mend=f"Use {KINDS}.",
        )
    return found


def is_data(name: str) -> bool:
    """Whether a file of this name, among others, is read. A .json beside data is nearly always about the data."""
    return not _is_hidden(name) and reader_of(name) is not None and not name.endswith(".json")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def reader_of(name: str) -> Reader | None:
    """Return the reader for files of such a name."""
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
    """Return the error for a file of JSON lines; if it is read in parts, only the reader of all can raise it."""
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
            about = pq.read_metadata(opened)
            schema = about.schema.to_arrow_schema()
        except pa.ArrowException as error:
            said = str(error).splitlines()[0]
            raise InputError(f"this is not a whole Parquet file: {said}", where=str(path)) from error
        columns = schema.names
        text = next((name for name in TEXT_FIELDS if name in columns), None)
        if text is None:
            raise InputError(
                f"there is no column of text among {', '.join(columns)}.",
                where=str(path),
                mend="Name the column with the documents `text` (or `content`).",
            )
        url = next((name for name in ("url", "id") if name in columns and _is_plain(schema.field(name).type)), None)
        groups = range(*part) if part else range(about.num_row_groups)
        if not _is_text(schema.field(text).type):
            rows = sum(about.row_group(group).num_rows for group in groups)
            counts.update(records=rows, no_text=rows)
            return
        columns = [name for name in (text, url) if name]
        for group in groups:
            try:
                rows = _rows_at_once(opened, about.row_group(group), columns)
                if not rows:
                    counts.update(records=about.row_group(group).num_rows, too_long=about.row_group(group).num_rows)
                    continue
                yield from _rows(pq.ParquetFile(opened, metadata=about).iter_batches(rows, [group], columns), counts)
            except (pa.ArrowException, OSError):  # the other row groups may be whole
                counts["damaged"] += 1


def _rows(batches: Iterator[pa.RecordBatch], counts: Counter[str]) -> Iterator[Document]:
    """The documents of a row group: the first column is the text, the second, if there is one, the URL."""
    told: Counter[bytes] = Counter()
    long, digest = pa.py_buffer(b""), b""  # the last long text: to compare with it is faster than to digest again
    for batch in batches:
        urls = _values(batch.column(1)) if batch.num_columns > 1 else [None] * len(batch)
        for text, url in zip(_values(batch.column(0)), urls, strict=True):
            counts["records"] += 1
            size = 0 if text is None else text.size
            if LONG_BYTES <= size <= MAXIMUM_BYTES and text is not None:
                if not text.equals(long):
                    long, digest = text, hashlib.blake2b(text, digest_size=16).digest()
                told[digest] += size
                size = told[digest]
            if text is None:
                counts["no_text"] += 1
            elif size > MAXIMUM_BYTES:
                counts["too_long" if text.size > MAXIMUM_BYTES else "repeated"] += 1
            else:
                yield Document(url=None if url is None else _text(url), text=_text(text))


def _rows_at_once(file: BinaryIO, group: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    """How many rows of a group may be unpacked at once; 0 where one of its pages is too large to be unpacked at all.

    A few bytes of a dictionary page can stand for gigabytes: each row may be the longest of its values.
    """
    rows = PARQUET_ROWS
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema not in columns:
            continue
        rows = min(rows, max(1, PARQUET_BYTES * group.num_rows // max(1, column.total_uncompressed_size)))
        if column.has_dictionary_page:
            size = _page_bytes(file, column.dictionary_page_offset)
            rows = min(rows, max(1, DICTIONARY_BYTES // max(1, size)))
        if _page_bytes(file, column.data_page_offset) > PAGE_BYTES:
            return 0
    return rows


def _page_bytes(file: BinaryIO, start: int) -> int:
    """How long the page that begins at `start` is when unpacked, as its header says.

    A page's header is in Thrift's compact protocol, and begins with its kind and this size.
    """
    file.seek(start)
    header = file.read(16)
    numbers: list[int] = []
    place = 0
    while len(numbers) < 2 and header[place : place + 1] == b"\x15":  # the next field, a 32-bit number
        value = shift = 0
        more = True
        while more and place + 1 < len(header):
            place += 1
            value |= (header[place] & 0x7F) << shift
            shift += 7
            more = header[place] >= 0x80
        numbers.append(value >> 1)  # zigzag; no size is negative
        place += 1
    return numbers[1] if len(numbers) > 1 else 0


def _values(column: pa.Array) -> Iterator[pa.Buffer | None]:
    """Each value of a column as the bytes that the column holds; numbers as they are spelled."""
    repeated = isinstance(column, pa.DictionaryArray)
    values = column.dictionary if repeated else column
    if pa.types.is_integer(values.type):
        values = values.cast(pa.string())
    last, buffer = None, None  # a value is copied when it is taken out
    for place in column.indices.to_pylist() if repeated else range(len(column)):
        if place is not None and place != last:
            last, buffer = place, values[place].as_buffer()
        yield None if place is None else buffer


def _text(value: pa.Buffer) -> str:
    return str(value, "utf-8", errors="replace")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


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
