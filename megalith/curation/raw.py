"""The first step of the funnel: the documents of all sources as they were found, in one Parquet file."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.curation.funnel import Step
from megalith.curation.read import find_sources, read_documents
from megalith.errors import InputError

Groups = Sequence[tuple[Path, Sequence[Path]]]
"""Each source with its files."""
ROW_GROUP_BYTES = 16_000_000
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("priority", pa.int64()),
        ("url", pa.large_string()),
        ("source", pa.large_string()),
        ("html", pa.large_binary()),
        ("charset", pa.large_string()),
        ("text", pa.large_string()),
        ("bytes", pa.int64()),
        ("reason", pa.large_string()),
        ("kept_id", pa.large_string()),
        ("kept_url", pa.large_string()),
    ]
)


def group_files(sources: Sequence[Path]) -> Groups:
    """The files of each source; one that is in two is of the first."""
    groups: list[tuple[Path, list[Path]]] = []
    seen: set[Path] = set()
    for source in sources:
        files = [file for file in find_sources([source]) if file.resolve() not in seen]
        seen.update(file.resolve() for file in files)
        groups.append((source, files))
    return groups


def label(source: Path) -> str:
    """What documents call the source they are from."""
    return source.resolve().name


def write_raw(place: Path, groups: Groups) -> Step:
    """Write the documents of all sources into `place`. Raises InputError when there is none."""
    start = time.monotonic()
    records: Counter[str] = Counter()
    documents = total_bytes = html_bytes = 0
    with pq.ParquetWriter(place / "documents.parquet", SCHEMA) as writer:
        held: list[dict[str, Any]] = []
        held_bytes = 0
        for document in _documents(groups, records):
            held.append(document | {"row": documents})
            documents += 1
            held_bytes += document["bytes"]
            total_bytes += document["bytes"]
            html_bytes += 0 if document["html"] is None else document["bytes"]
            if held_bytes >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(held, SCHEMA))
                held, held_bytes = [], 0
        writer.write_table(pa.Table.from_pylist(held, SCHEMA))
    if not documents:
        raise InputError(
            "there is no document in these sources.",
            where=", ".join(str(source) for source, _ in groups) or "curate.sources",
            mend="Give files or directories of WARC, JSONL (with a text field), Parquet (with a text column) or text.",
        )
    return Step(
        name="read",
        documents_in=records["records"],
        documents_out=documents,
        bytes_in=total_bytes,
        bytes_out=total_bytes,
        dropped={reason: count for reason, count in sorted(records.items()) if reason != "records" and count},
        split_off=0,
        seconds=round(time.monotonic() - start, 3),
        samples=[],
        facts={"html_bytes": html_bytes, "read": {"records": 0, "truncated": 0, "damaged": 0} | dict(records)},
    )


def _documents(groups: Groups, records: Counter[str]) -> Iterator[dict[str, Any]]:
    """The documents, but for their row; `records` counts what was read and passed over."""
    for priority, (source, files) in enumerate(groups):
        for file in files:
            for document in read_documents(file, records):
                text = None if document.text is None else _valid(document.text)
                yield {
                    "priority": priority,
                    "url": None if document.url is None else _valid(document.url),
                    "source": label(source),
                    "html": document.html,
                    "charset": document.charset,
                    "text": text,
                    "bytes": len(document.html if document.html is not None else (text or "").encode()),
                }


def _valid(text: str) -> str:
    """The text with surrogates (JSON can name them one by one) joined in pairs, and replaced where one is alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
