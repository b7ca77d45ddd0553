"""From runs to splits: every document in the order of its id, a bucket in memory at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from megalith.artifacts import Workspace
from megalith.curation.parts import write_parts
from megalith.curation.texts import SPLITS

BUCKET_BYTES = 32_000_000
MOST_BUCKETS = 4096


def buckets_for(total_bytes: int) -> int:
    """How many buckets leave some tens of megabytes of text in each."""
    return min(MOST_BUCKETS, max(1, -(-total_bytes // BUCKET_BYTES)))


def merge_runs(workspace: Workspace, runs: Path, buckets: int) -> None:
    """Write each split from its runs. The files are the same whatever runs the documents come in."""
    for split in SPLITS:
        files = sorted(runs.glob(f"*-{split}-*.arrow"))
        write_parts(_ordered(files, buckets), split, workspace.file)


def _ordered(files: Sequence[Path], buckets: int) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        readers = [pa.ipc.open_file(stack.enter_context(pa.OSFile(str(file)))) for file in files]
        for bucket in range(buckets) if readers else ():
            table = pa.Table.from_batches([reader.get_batch(bucket) for reader in readers])
            order = pc.sort_indices(table, sort_keys=[("id", "ascending")])
            yield from table.take(order).to_batches()
