"""Documents of tables: CSV and TSV with a row of names, and Arrow's own files (Feather, streams, Hugging Face's)."""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa

from megalith.curation.reading.columns import NO_TEXT_COLUMN, TextColumn, documents_of, why_none
from megalith.curation.reading.document import MAXIMUM_BYTES, OTHER_ENCODING, REPLACED, Document, Part, Source
from megalith.curation.reading.encodings import UTF8, encoding_of
from megalith.curation.reading.fields import document_of, text_name
from megalith.curation.reading.how import How
from megalith.curation.reading.lines import sample_of
from megalith.curation.reading.opening import DAMAGE, open_bytes, open_file
from megalith.input_files import csv_field_limit

BATCH_ROWS = 256


def read_csv(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The rows of a file of values parted by commas, tabs, semicolons or bars; the first row has the names."""
    sample = sample_of(path)
    encoding = encoding_of(sample)
    spelled = "utf-8-sig" if encoding == UTF8 else encoding
    with io.TextIOWrapper(open_file(path), spelled, "replace", newline="") as file:
        rows = _rows(csv.reader(file, delimiter=_delimiter(sample.decode(encoding, "replace"), str(path))), counts)
        names = next(rows, None)
        if names is None:
            return
        if text_name(names, how) is None:
            lost = sum(1 for _ in rows)
            counts.update({"records": lost, NO_TEXT_COLUMN: lost} if lost else {})
            return
        for row in rows:
            counts["records"] += 1
            if len(row) != len(names):
                counts["bad_line"] += 1
                continue
            document = document_of(dict(zip(names, row, strict=True)), counts, how)
            if document is not None and not (document.text or "").strip():
                counts["no_text"] += 1
            elif document is not None:
                if encoding != UTF8:
                    counts[OTHER_ENCODING] += 1
                elif "\ufffd" in (document.text or ""):
                    counts[REPLACED] += 1
                yield document


def read_arrow(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The rows of an Arrow file or stream (`.arrow`, `.feather`)."""
    with open_bytes(path) as file:
        if not file.read(1):
            return
        file.seek(0)
        try:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            source = pa.PythonFile(file)
            batches = _batches(pa.ipc.open_file(source)) if is_file else iter(pa.ipc.open_stream(source))
            first = next(batches, None)
            if first is None:
                return
            column = TextColumn.of(first.schema, how)
            for batch in itertools.chain([first], batches):
                if column is None:
                    counts.update({"records": len(batch), why_none(batch.schema, how): len(batch)})
                    continue
                pieces = (batch.slice(start, BATCH_ROWS) for start in range(0, len(batch), BATCH_ROWS))
                yield from documents_of(pieces, column, counts, how)
        except (pa.ArrowException, OSError):
            counts.update(records=1, damaged=1)


def _batches(file: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _rows(reader: Iterator[list[str]], counts: Counter[str]) -> Iterator[list[str]]:
    """The rows, blank ones left out, up to where the file is damaged."""
    while True:
        try:
            with csv_field_limit(MAXIMUM_BYTES):
                row = next(reader, None)
        except csv.Error:
            counts.update(records=1, bad_line=1)
            continue
        except EOFError:
            counts.update(records=1, truncated=1)
            return
        except DAMAGE:
            counts.update(records=1, damaged=1)
            return
        if row is None:
            return
        if row:
            yield row


def _delimiter(sample: str, name: str) -> str:
    """The sign that parts the names in the first row: a tab where the name says so, else the commonest of four."""
    first = sample.lstrip("\ufeff").partition("\n")[0]
    if ".tsv" in name.lower() and "\t" in first:
        return "\t"
    counted: Callable[[str], int] = first.count
    return max((",", "\t", ";", "|"), key=counted)
