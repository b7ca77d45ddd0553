"""The loader on a trillion tokens: seconds to the first batch, memory, and tokens a second of CPU time.

The trillion is 100 pairs of 10¹⁰ tokens and 10⁷ documents each. The `.bin` are sparse files, which take no room; the
`.idx` is one real file of 200 MB under 100 names, so that 10⁹ documents are searched as they would be. A small dense
set (50 million tokens of random documents) shows the speed without page faults. Each row is a process of its own; a
sample is 2048 tokens (512 for masks), a batch 16 of them. `growth_bytes` is the process's own memory; `file_bytes` are
mapped pages of files, which the kernel takes back as it needs them (the one index is counted under each of its names).
Prints a table and writes `results/loader.json`.

    python benchmarks/loader.py [--batches 1000]
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megalith.machine import cpu_name
from megalith.tokens import Blend, MaskedWindows, Shards, SpecialTokens, TrainingWindows

PAIRS, DOCUMENTS, DOCUMENT_TOKENS = 100, 10_000_000, 1000
DENSE_TOKENS, DENSE_DOCUMENT_TOKENS = 50_000_000, 600
VOCAB, BATCH, LENGTH, MASKED_LENGTH = 50_000, 16, 2048, 512
KINDS = ("causal", "blend", "masked")
RESULTS = Path(__file__).parent / "results"


def write_index(path: Path, lengths: NDArray[np.int32]) -> None:
    """An index of uint16 documents of one sequence each."""
    with path.open("wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        ends = np.cumsum(lengths, dtype=np.int64) * 2
        file.write((ends - lengths * 2).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def write_trillion(folder: Path) -> list[Path]:
    """The pairs' prefixes."""
    write_index(folder / "index", np.full(DOCUMENTS, DOCUMENT_TOKENS, dtype=np.int32))
    prefixes = [folder / f"part-{number}" for number in range(PAIRS)]
    for prefix in prefixes:
        prefix.with_suffix(".idx").symlink_to(folder / "index")
        with prefix.with_suffix(".bin").open("wb") as file:
            file.truncate(2 * DOCUMENTS * DOCUMENT_TOKENS)
    return prefixes


def write_dense(folder: Path) -> list[Path]:
    """The one pair's prefix."""
    rng = np.random.default_rng(0)
    lengths = rng.geometric(1 / DENSE_DOCUMENT_TOKENS, DENSE_TOKENS // DENSE_DOCUMENT_TOKENS).astype(np.int32)
    write_index(folder / "dense.idx", lengths)
    tokens = rng.integers(5, VOCAB, lengths.sum(), dtype=np.uint16)
    tokens[np.cumsum(lengths) - 1] = 0
    tokens.tofile(folder / "dense.bin")
    return [folder / "dense"]


def measure(kind: str, batches: int, prefixes: list[Path]) -> dict[str, float]:
    """Run in a fresh process: its own memory is what is measured."""
    before = memory()["RssAnon"]
    start = time.perf_counter()
    windows = make(kind, Shards(*prefixes))
    windows.batch(0, BATCH)
    start_seconds = time.perf_counter() - start
    windows.batch(BATCH, BATCH)
    started = memory()["RssAnon"]
    start = time.process_time()
    for number in range(2, batches + 2):
        windows.batch(number * BATCH, BATCH)
    seconds = time.process_time() - start
    after = memory()
    return {
        "start_seconds": start_seconds,
        "start_bytes": started - before,
        "growth_bytes": after["RssAnon"] - started,
        "file_bytes": after["RssFile"],
        "tokens_per_cpu_second": batches * BATCH * (MASKED_LENGTH if kind == "masked" else LENGTH) / seconds,
    }


def make(kind: str, shards: Shards) -> Any:
    if kind == "masked":
        return MaskedWindows(shards, MASKED_LENGTH, 1, VOCAB, SpecialTokens(0, 1, 2, 3, 4))
    if kind == "blend":
        return Blend([(TrainingWindows(shards.stream, LENGTH, seed), seed) for seed in range(1, 12)])
    return TrainingWindows(shards.stream, LENGTH, 1)


def memory() -> dict[str, int]:
    """Resident bytes of this process: its own (RssAnon), and pages of mapped files, which the kernel takes back."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0].startswith("Rss")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--worker", nargs="+", metavar="WORD", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.worker:
        kind, *prefixes = said.worker
        print(json.dumps(measure(kind, said.batches, [Path(prefix) for prefix in prefixes])))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sets = {"trillion": write_trillion(Path(folder)), "dense": write_dense(Path(folder))}
        for name, prefixes in sets.items():
            for kind in KINDS:
                command = [sys.executable, __file__, "--batches", str(said.batches)]
                done = subprocess.run(
                    [*command, "--worker", kind, *map(str, prefixes)],
                    capture_output=True,
                    text=True,
                    check=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                row = json.loads(done.stdout)
                rows.append({"tokens": name, "samples": kind, **row})
                print(
                    f"{name:9}{kind:7} first batch {row['start_seconds']:.3f} s, "
                    f"memory {row['start_bytes'] / 1e6:.1f} MB, {row['growth_bytes'] / 1e6:+.1f} MB "
                    f"after {said.batches} batches, {row['tokens_per_cpu_second'] / 1e6:.1f} M tokens a CPU second"
                )
    RESULTS.mkdir(exist_ok=True)
    figures = {"cpu": cpu_name(), "pairs": PAIRS, "documents": PAIRS * DOCUMENTS, "batches": said.batches, "rows": rows}
    (RESULTS / "loader.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
