"""Reads documents from what the user gives: WARC, WET, ARC, JSON lines, Parquet, text, HTML; plain or compressed.

One document is held at a time. What cannot be read (a broken line, a record of another kind) is counted by its reason
and passed over; only a file of which nothing can be used is an error.
"""

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from megalith.curation.warc import MAXIMUM_BYTES, Document, read_arc, read_warc
from megalith.errors import InputError, UnsupportedError

KINDS = "WARC, WET, ARC, JSON lines (.jsonl), Parquet, .txt, .md and .html, also .gz and .zst"
TEXT_FIELDS = ("text", "content")
PARQUET_ROWS = 256

Reader = Callable[[Path, Counter[str]], Iterator[Document]]


def find_sources(sources: Sequence[Path], ignored: Counter[str] | None = None) -> list[Path]:
    """The files to read, each once: a directory's in the order of their names, and only those of a kind that is known.

    `ignored` counts the others by suffix. Raises InputError for a source that is missing, of no known kind, or a
    directory with nothing to read, and UnsupportedError for a URL.
    """
    files: dict[Path, None] = {}
    for source in sources:
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(source)):
            raise UnsupportedError(
                "reading from URLs is not built yet.", where=str(source), mend="Download it and name the file."
            )
        if source.is_dir():
            found = _inside(source, ignored if ignored is not None else Counter())
        elif not source.exists():
            raise InputError("there is no such file or directory.", where=str(source))
        elif _reader(source) is None:
            raise InputError("this is not a kind of file that is read.", where=str(source), mend=f"Give {KINDS}.")
        else:
            found = [source]
        files.update(dict.fromkeys(found))
    return list(files)


def read_documents(path: Path, counts: Counter[str]) -> Iterator[Document]:
    """The documents of one file that `find_sources` returned.

    `counts` takes the number of `records` (of whatever kind), and of those passed over by reason: `not_html`,
    `not_found` (an HTTP status other than 200), `truncated`, `damaged`, `too_long`, `bad_line`, `no_text`, …

    Raises InputError where the file cannot be read or nothing in it can be used.
    """
    reader = _reader(path)
    if reader is None:
        raise InputError("this is not a kind of file that is read.", where=str(path), mend=f"Give {KINDS}.")
    try:
        yield from reader(path, counts)
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror or error}.", where=str(path)) from error


def _inside(directory: Path, ignored: Counter[str]) -> list[Path]:
    found = []
    for file in sorted(directory.rglob("*")):
        inner = file.relative_to(directory)
        if not file.is_file() or any(part.startswith(".") for part in inner.parts):
            continue
        if _reader(file) is None or file.suffix == ".json":  # a .json beside data is nearly always about the data
            ignored[file.suffix or "(none)"] += 1
        else:
            found.append(file)
    if not found:
        others = ", ".join(f"{number} × {suffix}" for suffix, number in ignored.most_common(5))
        raise InputError(
            f"nothing in this directory is of a kind that is read{f' ({others})' if others else ''}.",
            where=str(directory),
            mend=f"Give {KINDS}.",
        )
    return found


def _reader(path: Path) -> Reader | None:
    name = path.name.lower()
    for ending in (".gz", ".zst", ".lz4"):
        bare = name.removesuffix(ending)
        if bare != name:
            break
    if name.endswith(".lz4"):
        return read_warc if bare.endswith(".warc") else None
    return next((reader for suffix, reader in _READERS.items() if bare.endswith(suffix)), None)


def _read_json_lines(path: Path, counts: Counter[str]) -> Iterator[Document]:
    read = 0
    for line in _whole(_lines(path), counts):
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
    if not read:
        raise InputError(
            "no line of this file can be used.",
            where=str(path),
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


def _read_parquet(path: Path, counts: Counter[str]) -> Iterator[Document]:
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            text = next((name for name in TEXT_FIELDS if name in columns), None)
            if text is None:
                raise InputError(
                    f"there is no column of text among {', '.join(columns)}.",
                    where=str(path),
                    mend="Name the column with the documents `text` (or `content`).",
                )
            url = next((name for name in ("url", "id") if name in columns), None)
            for batch in file.iter_batches(PARQUET_ROWS, columns=[name for name in (text, url) if name]):
                for row in batch.to_pylist():
                    counts["records"] += 1
                    if isinstance(row[text], str):
                        yield Document(url=str(row[url]) if url and row[url] is not None else None, text=row[text])
                    else:
                        counts["no_text"] += 1
    except pa.ArrowException as error:
        raise InputError(f"this is not a whole Parquet file: {str(error).splitlines()[0]}", where=str(path)) from error


def _read_text(path: Path, counts: Counter[str]) -> Iterator[Document]:
    for content in _content(path, counts):
        yield Document(url=None, text=content.decode("utf-8-sig", errors="replace"))


def _read_html(path: Path, counts: Counter[str]) -> Iterator[Document]:
    for content in _content(path, counts):
        yield Document(url=None, html=content)


def _content(path: Path, counts: Counter[str]) -> Iterator[bytes]:
    """All of a file's bytes, if there are some and not too many."""
    counts["records"] += 1
    content = bytearray()
    with _open(path) as file:
        for piece in _whole(iter(lambda: file.read(1 << 20), b""), counts):
            content += piece
            if len(content) > MAXIMUM_BYTES:
                counts["too_long"] += 1
                return
    if content.strip():
        yield bytes(content)
    else:
        counts["no_text"] += 1


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_Zstandard(path))
    return path.open("rb")


class _Zstandard(io.RawIOBase):
    """The content of a .zst file. zstandard's own reader ends without a word in a frame cut off; this one raises."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: Any = None
        self._unread = b""
        self._content = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            piece = self._unread or self._file.read(1 << 17)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last frame is cut off")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()  # as zstd --long=31
            self._content = self._frame.decompress(piece)
            self._unread = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count


def _lines(path: Path) -> Iterator[bytes]:
    with _open(path) as file:
        yield from file


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
    ".arc": read_arc,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".md": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
}
