"""Copies that are written on request: both splits as JSON lines, and dropped documents with the reason."""

import io
import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from megalith.artifacts import Workspace, whole
from megalith.curation.corpus.document_table import Array, Columns, halves, names
from megalith.curation.corpus.table import Table
from megalith.ngrams.sorted_sets import different

DROPPED = pa.schema(
    [(name, pa.large_string()) for name in ("id", "url", "reason", "kept", "source_id", "metadata", "text")]
)


def write_json_lines(workspace: Workspace, split: str) -> None:
    """Write `jsonl/SPLIT/part-00000.jsonl.zst`, … of a split's Parquet files: a line a document, in their order."""
    for file in sorted((workspace.path / split).glob("*.parquet")):
        with workspace.file(f"jsonl/{split}/{file.stem}.jsonl.zst") as path, path.open("wb") as raw:
            packed = zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False)
            with io.TextIOWrapper(packed, "utf-8", newline="\n") as lines:
                for batch in pq.ParquetFile(file).iter_batches(1000):
                    for row in batch.to_pylist():
                        metadata = row.pop("metadata")
                        said = row | ({"metadata": json.loads(metadata)} if metadata else {})
                        lines.write(json.dumps({key: one for key, one in said.items() if one is not None}))
                        lines.write("\n")


def write_dropped(folder: Path, table: Table) -> None:
    """Write `STEP.parquet` for each step: the documents that it dropped, as they were extracted, with the reason.

    Of a duplicate, `kept` is the id of the copy that stands for it. Rows are in the order in which they were read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files: dict[str, pq.ParquetWriter] = {}
        for chunk in table.chunks:
            columns = table.open(chunk.number)
            for step in dict.fromkeys(step for step, _ in columns.reasons if step and step != "earlier"):
                codes = [code for code, (of, _) in enumerate(columns.reasons) if of == step]
                rows = np.flatnonzero(np.isin(columns.reason, codes) & (columns.dataset >= 0))
                for some, batch in table.batches(rows + columns.base, ["id", "url", "text", "source_id", "metadata"]):
                    if step not in files:
                        path = stack.enter_context(whole(folder / f"{step}.parquet"))
                        files[step] = stack.enter_context(pq.ParquetWriter(path, DROPPED, compression="zstd"))
                    files[step].write_table(_dropped(table, columns, some - columns.base, batch))


def _dropped(table: Table, columns: Columns, rows: Array, batch: pa.Table) -> pa.Table:
    copies = columns.kept[rows]
    wanted = different(copies[copies >= 0])
    name_of = dict(zip(wanted.tolist(), names(table.take(wanted)["identity"]), strict=True))
    made = {
        "id": names(halves(batch["id"])),
        "url": batch["url"],
        "reason": [columns.reasons[code][1] for code in columns.reason[rows].tolist()],
        "kept": [name_of.get(copy) for copy in copies.tolist()],
        "source_id": batch["source_id"],
        "metadata": batch["metadata"],
        "text": batch["text"],
    }
    return pa.table(made, schema=DROPPED)
