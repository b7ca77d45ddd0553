"""Readers of each kind of file; all yield records in the file's order, and read no more than is asked for."""

import csv
import gzip
import io
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.evaluation.formats.record import Record
from megalith.input_files import csv_field_limit, parse_json


def json_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSON lines file. Raises InputError at the first line that is not one."""
    return _objects(read_plain_text(path), str(path))


def json_files(path: Path) -> Iterator[Record]:
    """The object in each file of a directory, sorted by name."""
    for number, (name, text) in enumerate(members(path, "")):
        yield Record(_object(text, f"{path}/{name}"), f"{path}/{name}", number)


def table_rows(path: Path, delimiter: str | None = None) -> Iterator[Record]:
    """The rows of a comma- or tab-separated file with a header. Raises InputError for a row of another length."""
    text = read_plain_text(path)
    given = delimiter or ("\t" if ".tsv" in path.suffixes or ".txt" in path.suffixes else ",")
    lines = io.StringIO(text, newline="")
    quoted = given != "\t"
    reader = csv.reader(lines, delimiter=given, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        with csv_field_limit(sys.maxsize):  # a passage may be longer than csv's 128 KiB
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"this table cannot be read: {error}.", where=f"{path}, line {reader.line_num}") from error
    for number, (line, row) in enumerate(rows):
        where = f"{path}, line {line}"
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"this row has {len(row)} cells, and the header {len(header)}.", where=where)
        yield Record(dict(zip(header, row, strict=True)), where, number)


def parquet_rows(path: Path) -> Iterator[Record]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as parquet:
            number = 0
            for batch in parquet.iter_batches(1024):
                for row in batch.to_pylist():
                    yield Record(row, f"{path}, row {number + 1}", number)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise InputError("this is not a Parquet file, or it is damaged.", where=str(path)) from error


def members(path: Path, suffix: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file with this suffix in a directory or a tar archive, sorted by name."""
    if path.is_dir():
        for file in sorted(path.rglob(f"*{suffix}")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), read_plain_text(file)
        return
    try:
        with tarfile.open(path) as archive:
            files = {one.name: one for one in archive.getmembers() if one.isfile() and one.name.endswith(suffix)}
            texts = {}
            for name, one in files.items():
                if (content := archive.extractfile(one)) is not None:  # as for every regular file
                    texts[name] = _decoded(content.read(), f"{path}/{name}")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"this archive cannot be read: {error}.", where=str(path)) from error
    yield from sorted(texts.items())


def read_plain_text(path: Path) -> str:
    """The text of a UTF-8 file, which may be gzipped. Raises InputError where it cannot be read."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"this file cannot be read: {error}.", where=str(path)) from error
    return _decoded(content, str(path))


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is not UTF-8 text.", where=where, mend="Save the file as UTF-8.") from error


def _objects(text: str, path: str) -> Iterator[Record]:
    number = 0
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            where = f"{path}, line {line}"
            yield Record(_object(content, where), where, number)
            number += 1


def _object(text: str, where: str) -> dict[str, Any]:
    value = parse_json(text, where=where)
    if not isinstance(value, dict):
        raise InputError("a JSON object is wanted here.", where=where)
    return value
