"""A split on disk: Parquet files that hold the same bytes however the work was shared out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_BYTES = 8_000_000
ROW_GROUPS_PER_FILE = 32
OUTPUT = ("id", "url", "source", "text", "language", "source_id", "metadata")
"""The columns of a split: `source_id` is the id that a document came with, `metadata` JSON of what is kept beside."""
SCHEMA = pa.schema([(name, pa.string()) for name in OUTPUT])


def write_parts(
    batches: Iterable[pa.RecordBatch], folder: str, file: Callable[[str], AbstractContextManager[Path]]
) -> None:
    """Write documents, in the order in which they come, as `folder`/part-00000.parquet, …

    Row groups and files end by the bytes of text before them, so how the documents come in batches is of no account.
    There is always one file, if need be without documents.
    """
    groups = _row_groups(batches)
    wrote = False
    for part, groups_of_part in groupby(groups, key=lambda group: group[0] // ROW_GROUPS_PER_FILE):
        _write(f"{folder}/part-{part:05d}.parquet", (table for _, table in groups_of_part), file)
        wrote = True
    if not wrote:
        _write(f"{folder}/part-00000.parquet", (), file)


def _write(name: str, tables: Iterable[pa.Table], file: Callable[[str], AbstractContextManager[Path]]) -> None:
    with file(name) as path, pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Number and documents of each row group."""
    held: list[pa.Table] = []
    number = 0
    seen = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)
        sizes = pc.binary_length(table["text"]).to_numpy().astype(np.int64)
        before = seen + np.cumsum(sizes) - sizes
        seen += int(sizes.sum())
        of_group = before // ROW_GROUP_BYTES
        for group in np.unique(of_group).tolist():
            if group != number and held:
                yield number, pa.concat_tables(held).combine_chunks()
                held = []
            number = group
            first, last = np.searchsorted(of_group, [group, group + 1])
            held.append(table.slice(first, last - first))
    if held:
        yield number, pa.concat_tables(held).combine_chunks()
