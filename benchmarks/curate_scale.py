"""Curation's cost at four sizes of JSON lines and of WARC: CPU by step, memory of driver and worker, bytes written.

Every size is curated twice, each time in a process of its own. On one core all of it happens in that process, whose
clocks are made to count CPU seconds, so other programs on the machine matter little; on two cores the driver and its
workers are processes apart, and the peak of each is read (VmHWM). Two more rows of sizes: a worker on units of 5 to
40 MB, and duplicates alone, of made-up columns, at numbers of documents that no corpus here has.

Prints tables and the fit's errors; writes `results/curate_scale.json`, and with `--constants` what
`megalith/planning/curation.py` reads.

    python benchmarks/curate_scale.py --data FOLDER [--megabytes 80] [--constants FILE]
    python benchmarks/curate_scale.py --fit-only [--constants FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import zstandard

from megalith.machine import cpu_name, usable_cores
from megalith.planning.calibration.fit_curation import fit_curation

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "curate_scale.json"
SHARES = (8, 4, 2, 1)
"""The share of a smaller size: one document in so many of the largest."""
DECIDED_DOCUMENTS = (250_000, 500_000, 1_000_000, 2_000_000)
LEAST_MEGABYTES = 60
WATCHED_SECONDS = 0.05
SETTINGS = {
    "name": "scale",
    "about": "Curation by its defaults.",
    "curate": {"validation_share": 0.02},
    "tokenize": {"vocab_size": 50257},
    "model": {"vocab_size": 50257},
    "budget": {"flops": 1e18},
    "train": {"global_batch_size": 16, "learning_rate": 1e-3},
}


def main() -> None:
    said = parse()
    if not said.fit_only:
        measure(said.data, said.megabytes)
    figures = json.loads(RESULTS.read_text())
    fitted = fit_curation(figures)
    show(figures, fitted)
    if said.constants:
        said.constants.write_text(json.dumps(fitted, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("MEGALITH_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data))
    parser.add_argument("--megabytes", type=float, default=80.0, help="of the largest JSON lines")
    parser.add_argument("--constants", type=Path, help="write the fitted constants here")
    parser.add_argument("--fit-only", action="store_true", help="fit what results/curate_scale.json holds")
    said = parser.parse_args()
    if said.data is None and not said.fit_only:
        parser.error("--data is wanted, or MEGALITH_DATA")
    if said.megabytes < LEAST_MEGABYTES:
        parser.error(f"--megabytes {LEAST_MEGABYTES} at least: less starts no workers to look at")
    return said


def measure(data: Path, megabytes: float) -> None:
    """Run all sizes, and write the results after each, so that a run cut short leaves what it had."""
    figures: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_before": os.getloadavg(),
        "settings": SETTINGS,
        "rows": [],
        "decided": [],
        "units": [],
    }
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        check = folder / "check.jsonl"
        made = inputs(folder, data, megabytes, check)
        run("one", made[0][1], folder)  # compiles what is compiled once
        for kind, source, size in made:
            one = run("one", source, folder)
            two = run("two", source, folder)
            row = {"kind": kind, "bytes": size, "file_bytes": source.stat().st_size, **one, "apart": two}
            figures["rows"].append(row)
            print(
                f"{kind} {size / 1e6:6.1f} MB  {row['documents']:6} documents  {row['cpu_seconds']:7.1f} s of one core",
                flush=True,
            )
            write(figures)
        for share in SHARES:
            source, size = two_units(folder, share)
            figures["units"].append({"unit_bytes": size, **run("two", source, folder)})
            print(f"units of {size / 1e6:.1f} MB: {figures['units'][-1]}", flush=True)
            write(figures)
        for documents in DECIDED_DOCUMENTS:
            figures["decided"].append(run("decide", documents, folder))
            print(f"duplicates alone, {documents:,} documents: {figures['decided'][-1]}", flush=True)
            write(figures)
        apart = run("two", check, folder)
        figures["check"] = {"kind": "text", "bytes": check.stat().st_size, **run("one", check, folder), "apart": apart}
        write(figures)


def write(figures: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


def inputs(folder: Path, data: Path, megabytes: float, check: Path) -> list[tuple[str, Path, int]]:
    """The kind, the file and its bytes (of HTML, for WARC) of each size; every one holds the ones before it.

    `check` becomes four times the largest JSON lines, which no fit sees.
    """
    from curation.inputs import write_warc
    from synthetic_corpus import documents, paragraphs

    corpora = data / "corpora" if (data / "corpora").is_dir() else data
    made: list[tuple[str, Path, int]] = []
    files = [folder / f"text-{share}.jsonl" for share in SHARES]
    drawn = documents(paragraphs(corpora.parent), 1)
    written = 0
    lines = []
    while written < megabytes * 1e6:
        lines.append(json.dumps(next(drawn), ensure_ascii=False).encode() + b"\n")
        written += len(lines[-1])
    for share, file in zip(SHARES, files, strict=True):
        file.write_bytes(b"".join(lines[: len(lines) // share]))
        made.append(("text", file, file.stat().st_size))
    while written < 4 * megabytes * 1e6:
        lines.append(json.dumps(next(drawn), ensure_ascii=False).encode() + b"\n")
        written += len(lines[-1])
    check.write_bytes(b"".join(lines))
    pages = folder / "pages.warc.gz"
    write_warc(pages, corpora)
    return made + slices(pages, folder)


def slices(pages: Path, folder: Path) -> list[tuple[str, Path, int]]:
    """WARCs of every eighth, fourth, second page and of all: each record is a gzip member, and copied as it is."""
    from warcio.archiveiterator import ArchiveIterator

    packed = pages.read_bytes()
    found: list[tuple[int, int, int]] = []
    with pages.open("rb") as file:
        iterator = ArchiveIterator(file)
        for record in iterator:
            size = len(record.content_stream().read())
            found.append((iterator.get_record_offset(), iterator.get_record_length(), size))
    made = []
    for share in SHARES:
        file_path = folder / f"pages-{share}.warc.gz"
        chosen = found[::share]
        file_path.write_bytes(b"".join(packed[start : start + length] for start, length, _ in chosen))
        made.append(("warc", file_path, sum(size for _, _, size in chosen)))
    return made


def two_units(folder: Path, share: int) -> tuple[Path, int]:
    """A folder of two compressed files, which are not cut and so are a unit each, and the bytes of the larger."""
    made = folder / f"units-{share}"
    made.mkdir()
    lines = (folder / f"text-{share}.jsonl").read_bytes().splitlines(keepends=True)
    halves = [b"".join(lines[start::2]) for start in range(2)]
    for number, half in enumerate(halves):
        (made / f"{number}.jsonl.zst").write_bytes(zstandard.compress(half, 3))
    return made, max(map(len, halves))


def run(mode: str, source: Path | int, folder: Path) -> dict[str, Any]:
    """The measurement of `curation/scale_worker.py` in a process of its own, and of its process tree from here."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, str(HERE / "curation" / "scale_worker.py"), mode, str(source), place]
        begun = time.monotonic()
        process = subprocess.Popen(
            [*command, json.dumps(SETTINGS)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores[: 1 if mode == "one" else 2]),
        )
        tree = watch(process)
        if process.returncode:
            raise SystemExit(process.returncode)
        told: dict[str, Any] = json.loads((Path(place) / "told.json").read_text())
    told["wall_seconds"] = round(time.monotonic() - begun, 2)
    if mode == "two":
        return {**tree, "driver_cpu_seconds": told["own_cpu_seconds"], "driver_peak_bytes": told["peak_bytes"]} | {
            "wall_seconds": told["wall_seconds"],
            "load": os.getloadavg()[0],
        }
    return told


def watch(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The workers' CPU seconds and the largest worker's peak, by polling until the process ends."""
    cpu: dict[int, float] = {}
    peak: dict[int, int] = {}
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            for child in driver.children(recursive=True):
                times = child.cpu_times()
                cpu[child.pid] = times.user + times.system
                peak[child.pid] = max(peak.get(child.pid, 0), peak_bytes(child.pid))
        except (psutil.Error, OSError):
            pass
        time.sleep(WATCHED_SECONDS)
    return {
        "workers": sum(used > 0.5 for used in cpu.values()),
        "worker_cpu_seconds": round(sum(cpu.values()), 2),
        "worker_peak_bytes": max(peak.values(), default=0),
    }


def show(figures: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Print the rows, and how far off each is foretold by the others of its kind."""
    heads = (("MB", 8), ("documents", 11), ("CPU s", 9), ("left out", 10), ("disk MB", 9), ("left out", 10))
    print(f"{'':6}" + "".join(f"{name:>{width}}" for name, width in (*heads, ("driver", 8), ("worker", 8))))
    for kind, about in fitted["kinds"].items():
        rows = [row for row in figures["rows"] if row["kind"] == kind]
        for row, cpu, disk in zip(rows, about["left_out"]["cpu"], about["left_out"]["disk"], strict=True):
            written = sum(row["disk"][name] for name in ("text", "signatures", "bands", "kept", "runs"))
            print(
                f"{kind:6}{row['bytes'] / 1e6:8.1f}{row['documents']:11,}{row['cpu_seconds']:9.2f}{cpu:+10.1%}"
                f"{written / 1e6:9.1f}{disk:+10.1%}{row['apart']['driver_peak_bytes'] / 1e6:8.0f}"
                f"{row['apart']['worker_peak_bytes'] / 1e6:8.0f}"
            )


def peak_bytes(pid: int) -> int:
    """VmHWM: the most that was ever resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
