"""Files of tasks as they were published: JSON lines, tables, archives, one JSON a file, each plain or gzipped.

A record keeps its file and line, so that whatever is wrong with it can be said where it stands.
"""

from megalith.evaluation.formats.files import DataFile, data_directory
from megalith.evaluation.formats.readers import (
    json_files,
    json_lines,
    members,
    parquet_rows,
    read_plain_text,
    table_rows,
)
from megalith.evaluation.formats.record import Record

__all__ = [
    "DataFile",
    "Record",
    "data_directory",
    "json_files",
    "json_lines",
    "members",
    "parquet_rows",
    "read_plain_text",
    "table_rows",
]
