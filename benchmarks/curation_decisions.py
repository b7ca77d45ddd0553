"""Decisions about millions of made-up documents: memory of all processes and of the driver, seconds, bytes exchanged.

Writes the columns alone (`curation/made_up_columns.py`: hashes, scores, MinHash keys, signatures of near-duplicates),
then decides in a process of its own, as `curate` does: exact duplicates, near-duplicates, what is held out. The
proportional set size of that process and of its workers is sampled until it ends. Appends to
`results/curation_decisions.json`.

    python benchmarks/curation_decisions.py [--documents 20000000] [--place FOLDER] [--cores 2]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from megalith.machine import cpu_name

RESULTS = Path(__file__).parent / "results" / "curation_decisions.json"
SAMPLED_SECONDS = 1.0
TABLE = "table.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000_000)
    parser.add_argument("--place", type=Path, help="of the columns, which are some 230 bytes a document; kept if named")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--full-chunks", action="store_true", help="as large as among ten million documents and more")
    parser.add_argument("--decide", action="store_true", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.decide:
        print(json.dumps(decide(said.place)))
        return
    with tempfile.TemporaryDirectory() as given:
        place = said.place or Path(given)
        if not (place / TABLE).is_file():
            write(place, said.documents, full_chunks=said.full_chunks)
        figures = measure(place, said.cores)
    held = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    RESULTS.write_text(json.dumps([*held, figures], indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def write(place: Path, documents: int, *, full_chunks: bool) -> None:
    """Write the columns, and what `measure` says of them."""
    from curation.made_up_columns import EXACT, NEAR, write_table

    from megalith.curation.corpus import table

    if full_chunks:
        table.FEWEST_ROWS = table.CHUNK_ROWS
    begun = time.monotonic()
    write_table(place, documents)
    told = {"documents": documents, "share_of_copied_texts": EXACT, "share_of_versions": NEAR}
    told["chunks"] = len(table.Table(place / "table").chunks)
    (place / TABLE).write_text(json.dumps(told))
    print(f"columns of {documents:,} documents written in {time.monotonic() - begun:.0f} s", flush=True)


def decide(place: Path) -> dict[str, Any]:
    """Decide, and say how long each step took and what it left."""
    import shutil

    from megalith.curation import decide
    from megalith.curation.corpus.table import Table
    from megalith.curation.passes import Decisions, silent
    from megalith.recipe import MinHashConfig

    work = place / "decisions-being-made"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(place / "table", work / "table")
    table = Table(work / "table")
    decisions = Decisions(table, work, 1)
    decisions.funnel.come([[0, len(table), 0]])
    decisions.funnel.read({"records": len(table)}, 0, 0.0)
    steps: dict[str, Any] = {}

    def clocked(name: str, step: Any) -> None:
        begun = time.monotonic()
        step()
        steps[name] = {"seconds": round(time.monotonic() - begun, 1), "left": decisions.funnel.left()[0]}

    clocked("exact", lambda: decide.drop_exact_duplicates(decisions, silent))
    clocked("near", lambda: decide.drop_near_duplicates(decisions, MinHashConfig(), silent))
    clocked("held out", lambda: decide.hold_out(decisions, 0.01))
    used = resource.getrusage(resource.RUSAGE_SELF)
    shutil.rmtree(work)
    return {"steps": steps, "driver_cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}


def measure(place: Path, cores: int) -> dict[str, Any]:
    """Run `decide` and watch its processes."""
    load = os.getloadavg()[0]
    begun = time.monotonic()
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    process = subprocess.Popen(
        [sys.executable, __file__, "--decide", "--place", str(place)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, chosen),
    )
    driver = psutil.Process(process.pid)
    peak = driver_peak = worker_peak = disk_peak = 0
    spent: dict[int, float] = {}
    while process.poll() is None:
        workers = children(driver)
        own, *others = (held(one) for one in [driver, *workers])
        spent |= {one.pid: max(spent.get(one.pid, 0.0), cpu_seconds(one)) for one in workers}
        peak, driver_peak = max(peak, own + sum(others)), max(driver_peak, own)
        worker_peak = max([worker_peak, *others])
        disk_peak = max(disk_peak, bytes_under(place / "decisions-being-made"))
        time.sleep(SAMPLED_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)
    assert process.stdout is not None
    about = json.loads((place / TABLE).read_text())
    told = json.loads(process.stdout.read().splitlines()[-1])
    workers_cpu = sum(spent.values())
    cpu = told["driver_cpu_seconds"] + workers_cpu
    return {
        "cpu": cpu_name(),
        "cores": cores,
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        **about,
        "peak_bytes": {"all": peak, "driver": driver_peak, "one worker": worker_peak},
        "exchanged_peak_bytes": disk_peak,
        "wall_seconds": round(time.monotonic() - begun, 1),
        "worker_cpu_seconds": round(workers_cpu, 1),
        "cpu_microseconds_a_document": round(1e6 * cpu / about["documents"], 2),
        **told,
    }


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def held(process: psutil.Process) -> int:
    """Proportional set size: pages that processes share count once among them."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0  # it has ended meanwhile


def cpu_seconds(process: psutil.Process) -> float:
    """Seconds of a processor that it has used so far."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def bytes_under(folder: Path) -> int:
    """Bytes of the files of a folder; those that go while it is read count as none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


if __name__ == "__main__":
    main()
