"""From runs to splits: every document in the order of its id, a bucket in memory at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from megalith.artifacts import Workspace
from megalith.curation.parquet_splits import write_parts
from megalith.curation.runs import SPLITS

BUCKET_BYTES = 32_000_000
MOST_BUCKETS = 4096
MOST_OPEN = 500
"""Files at once: systems allow a process 1,024, and some are Daft's."""


def buckets_for(total_bytes: int) -> int:
    """How many buckets leave some tens of megabytes of text in each."""
    return min(MOST_BUCKETS, max(1, -(-total_bytes // BUCKET_BYTES)))


def merge_runs(workspace: Workspace, runs: Path, buckets: int) -> None:
    """Write each split from its runs. The files are the same whatever runs the documents come in."""
    for split in SPLITS:
        files = sorted(runs.glob(f"*-{split}-*.arrow"))
        level = 0
        while len(files) > MOST_OPEN:
            groups = [files[at : at + MOST_OPEN] for at in range(0, len(files), MOST_OPEN)]
            files = [_join(group, runs / f"{split}.{level}.{n}.joined", buckets) for n, group in enumerate(groups)]
            level += 1
        write_parts(_ordered(files, buckets), split, workspace.file)


def _join(files: Sequence[Path], joined: Path, buckets: int) -> Path:
    """Write one run in place of several: of each bucket what all of them have."""
    with ExitStack() as stack:
        readers = [pa.ipc.open_file(stack.enter_context(pa.OSFile(str(file)))) for file in files]
        sink = stack.enter_context(pa.OSFile(str(joined), "wb"))
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        writer = stack.enter_context(pa.ipc.new_file(sink, readers[0].schema, options=options))
        for bucket in range(buckets):
            table = pa.Table.from_batches([reader.get_batch(bucket) for reader in readers]).combine_chunks()
            writer.write_batch(table.to_batches()[0] if len(table) else readers[0].get_batch(bucket))
    return joined


def _ordered(files: Sequence[Path], buckets: int) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        readers = [pa.ipc.open_file(stack.enter_context(pa.OSFile(str(file)))) for file in files]
        for bucket in range(buckets) if readers else ():
            table = pa.Table.from_batches([reader.get_batch(bucket) for reader in readers])
            order = pc.sort_indices(table, sort_keys=[("id", "ascending")])
            yield from table.take(order).to_batches()
