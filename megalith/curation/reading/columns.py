"""Documents of columns: the text as bytes that are copied once, with its URL, id and metadata."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from megalith.curation.reading.document import MAXIMUM_BYTES, OTHER_ENCODING, REPLACED, Document
from megalith.curation.reading.encodings import encoding_of
from megalith.curation.reading.fields import METADATA_BYTES, metadata_of, text_name
from megalith.curation.reading.how import How

LONG_BYTES = 1_000_000
"""Equal texts so long are counted together: one value may not stand for more than MAXIMUM_BYTES of a row group."""


NO_TEXT_COLUMN = "no_text_column"
"""Rows of a table without a column of text."""


def why_none(schema: pa.Schema, how: How) -> str:
    """The reason why rows of a table with this schema give no document."""
    return NO_TEXT_COLUMN if text_name(list(schema.names), how) is None else "no_text"


@dataclass(frozen=True)
class TextColumn:
    """Which columns of a table are read, by their names; one that is within others is named with dots."""

    text: str
    url: str | None
    id: str | None
    metadata: tuple[str, ...]
    ambiguous: bool
    """Whether several columns have the name of the text's: the first of them is read."""

    @staticmethod
    def of(schema: pa.Schema, how: How) -> "TextColumn | None":
        """The columns of a table with this schema; None where it has no text."""
        names = list(schema.names)
        text = text_name(names, how)
        if text is None or not _is_text(kind := _type(schema, text)) or kind is None:
            return None
        url = _plain_column(schema, [how.url_field] if how.url_field else ["url", "id"])
        identity = _plain_column(schema, [how.id_field] if how.id_field else ["id"])
        if "*" in how.metadata:
            own = {text.partition(".")[0], how.url_field, how.id_field, "url", "id"}
            metadata = tuple(name for name in names if name not in own)
        else:
            metadata = tuple(name for name in how.metadata if name.partition(".")[0] in names and name != text)
        return TextColumn(text, url, identity, metadata, len(set(names)) < len(names))

    @property
    def names(self) -> list[str] | None:
        """The columns to read, or all where their names do not tell them apart."""
        if self.ambiguous:
            return None
        wanted = (self.text, self.url, self.id, *self.metadata)
        return list(dict.fromkeys(name for name in wanted if name))


def documents_of(
    batches: Iterator[pa.RecordBatch], columns: TextColumn, counts: Counter[str], how: How
) -> Iterator[Document]:
    """The documents of the batches of one row group."""
    told: Counter[bytes] = Counter()
    long, digest = pa.py_buffer(b""), b""  # the last long text: to compare with it is faster than to digest again
    for batch in batches:
        nothing: list[None] = [None] * len(batch)
        urls = _values(_column(batch, columns.url)) if columns.url else iter(nothing)
        ids = _values(_column(batch, columns.id)) if columns.id else iter(nothing)
        beside = _metadata(batch, columns.metadata) if columns.metadata else iter(nothing)
        texts = _values(_column(batch, columns.text))
        for text, url, identity, more in zip(texts, urls, ids, beside, strict=True):
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
                yield Document(
                    url=None if url is None else _text(url),
                    text=_decoded(text, counts),
                    source_id=None if identity is None else _text(identity),
                    metadata=metadata_of(more, counts) if more else None,
                )


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column, or one within others; of several of one name the first."""
    if name in batch.schema.names:
        return batch.column(batch.schema.names.index(name))
    first, *inner = name.split(".")
    column = batch.column(batch.schema.names.index(first))
    for part in inner:
        column = pa.compute.struct_field(column, part)
    return column


def _metadata(batch: pa.RecordBatch, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The kept fields of each row; a value that is longer than all may be is not unpacked."""
    columns = {name: _column(batch, name) for name in names if _has(batch.schema, name)}
    for place in range(len(batch)):
        found: dict[str, Any] = {}
        for name, column in columns.items():
            value = column[place]
            if value.is_valid and not (_is_text(column.type) and len(value.as_buffer()) > METADATA_BYTES):
                plain = value.as_py()
                found[name] = plain.decode(errors="replace") if isinstance(plain, bytes) else plain
        yield found


def _has(schema: pa.Schema, name: str) -> bool:
    return _type(schema, name) is not None


def _type(schema: pa.Schema, name: str) -> pa.DataType | None:
    if name in schema.names:
        return schema.field(schema.names.index(name)).type
    first, *inner = name.split(".")
    if first not in schema.names:
        return None
    kind = schema.field(schema.names.index(first)).type
    for part in inner:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _plain_column(schema: pa.Schema, names: list[str]) -> str | None:
    for name in names:
        kind = _type(schema, name)
        if kind is not None and (_is_text(kind) or pa.types.is_integer(kind)):
            return name
    return None


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


def _decoded(value: pa.Buffer, counts: Counter[str]) -> str:
    """The text of a value, which in a binary column may be in any encoding."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        said = encoding_of(value.to_pybytes())
        counts[REPLACED if said == "utf-8" else OTHER_ENCODING] += 1
        return str(value, said, errors="replace")


def _is_text(kind: pa.DataType | None) -> bool:
    """Whether values are text, or bytes, which Spark and old writers of Parquet leave unannotated."""
    kind = kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
    tests = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    return kind is not None and any(getattr(pa.types, test)(kind) for test in tests)
