"""Documents of Parquet, a row group at a time, within bounds whatever the file says of itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.curation.reading.columns import TextColumn, documents_of, why_none
from megalith.curation.reading.document import Document, Part, Source
from megalith.curation.reading.how import How
from megalith.curation.reading.opening import open_bytes

PARQUET_ROWS, PARQUET_BYTES = 256, 16_000_000
"""Unpacked at once, at most, as the file says how long its rows are on average."""
DICTIONARY_BYTES, PAGE_BYTES = 1 << 28, 1 << 29
"""At most, if each row were the longest in the dictionary; of one page, which is unpacked whole."""

BESIDE_DAMAGE = "beside_damage"
"""Rows that are lost with a damaged one of their row group."""


def read_parquet(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The rows of a Parquet file, or of a range of its row groups."""
    with open_bytes(path) as opened:
        if not opened.read(1):
            return
        opened.seek(0)
        try:
            about = pq.read_metadata(opened)
            schema = about.schema.to_arrow_schema()
        except (pa.ArrowException, OSError):
            counts.update(records=1, damaged=1)
            return
        columns = TextColumn.of(schema, how)
        groups = range(*part) if part else range(about.num_row_groups)
        if columns is None:
            rows = sum(about.row_group(group).num_rows for group in groups)
            counts.update({"records": rows, why_none(schema, how): rows} if rows else {})
            return
        names = columns.names
        for group in groups:
            held = about.row_group(group)
            before = counts["records"]
            try:
                rows = _rows_at_once(opened, held, names)
                if not rows:
                    counts.update(records=held.num_rows, too_long=held.num_rows)
                    continue
                batches = pq.ParquetFile(opened, metadata=about).iter_batches(rows, [group], names)
                yield from documents_of(batches, columns, counts, how)
            except (pa.ArrowException, OSError):  # the other row groups may be whole
                lost = max(1, held.num_rows - (counts["records"] - before))
                counts.update({"records": lost, "damaged": 1} | ({BESIDE_DAMAGE: lost - 1} if lost > 1 else {}))


def _rows_at_once(file: BinaryIO, group: pq.RowGroupMetaData, columns: Sequence[str] | None) -> int:
    """How many rows of a group may be unpacked at once; 0 where one of its pages is too large to be unpacked at all.

    A few bytes of a dictionary page can stand for gigabytes: each row may be the longest of its values.
    """
    rows = PARQUET_ROWS
    for place in range(group.num_columns):
        column = group.column(place)
        if columns is not None and not _is_among(column.path_in_schema, columns):
            continue
        rows = min(rows, max(1, PARQUET_BYTES * group.num_rows // max(1, column.total_uncompressed_size)))
        if column.has_dictionary_page:
            size = _page_bytes(file, column.dictionary_page_offset)
            rows = min(rows, max(1, DICTIONARY_BYTES // max(1, size)))
        if _page_bytes(file, column.data_page_offset) > PAGE_BYTES:
            return 0
    return rows


def _is_among(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)


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
