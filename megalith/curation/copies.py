"""Copies that are written on request: both splits as JSON lines, and dropped documents with the reason."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from megalith.artifacts import Workspace, whole
from megalith.curation.corpus.document_table import Columns, halves, names
from megalith.curation.funnel import Funnel

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


def write_dropped(folder: Path, columns: Columns, funnel: Funnel) -> None:
    """Write `STEP.parquet` for each step: the documents that it dropped, as they were extracted, with the reason.

    Of a duplicate, `kept` is the id of the copy that stands for it. Rows are in the order in which they were read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for step in dict.fromkeys(step for step, _ in funnel.reasons if step and step != "earlier"):
        codes = [code for code, (of, _) in enumerate(funnel.reasons) if of == step]
        rows = np.flatnonzero(np.isin(columns.reason, codes) & (columns.dataset >= 0))
        if not len(rows):
            continue
        with whole(folder / f"{step}.parquet") as path, pq.ParquetWriter(path, DROPPED, compression="zstd") as file:
            for some, table in columns.batches(rows, ["id", "url", "text", "source_id", "metadata"]):
                reasons = [funnel.reasons[code][1] for code in columns.reason[some].tolist()]
                copies = columns.kept[some].tolist()
                kept = [columns.name(copy) if copy >= 0 else None for copy in copies]
                made = {
                    "id": names(halves(table["id"])),
                    "url": table["url"],
                    "reason": reasons,
                    "kept": kept,
                    "source_id": table["source_id"],
                    "metadata": table["metadata"],
                    "text": table["text"],
                }
                file.write_table(pa.table(made, schema=DROPPED))
