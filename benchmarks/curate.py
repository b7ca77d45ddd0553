"""Curation on one core: Megalith beside datatrove, datasketch and rensa, and beside its own libraries called by hand.

All on the same text and the same pages, each in a process of its own, in turn, for several rounds; what takes under two
seconds is done up to five times in each. A figure is the least CPU time of all (user and system, children included), so
that other programs on the machine matter little. The slow ones get the first megabytes of the same text. Every
contestant is called once before the clock starts, so neither compiling nor loading a model counts; `megalith curate` as
a whole is the exception, and pays for its start.

Prints megabytes of text (of HTML, for WARC) a CPU second, and ratios; writes `results/curate.json`.

    python benchmarks/curate.py --data FOLDER [--peers PYTHON] [--megabytes 40] [--rounds 2]

FOLDER has the corpora that `curation/inputs.py` names (or MEGALITH_DATA does). Peers want packages that Megalith does
not, so they have an environment of their own; without `--peers`, or where one is not installed, they are left out:

    python -m venv peers && peers/bin/pip install "datatrove[io,processing]" orjson datasketch rensa
    python benchmarks/curate.py --data FOLDER --peers peers/bin/python
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.inputs import write_text, write_warc

from megalith.machine import cpu_name, usable_cores

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "curate.json"
SLOW_MEGABYTES = 2.0


@dataclass(frozen=True)
class Contestant:
    """One way to do one of the jobs."""

    job: str
    name: str
    peer: bool = False
    slow: bool = False
    threads: int = 1


CONTESTANTS = (
    *(Contestant("text to MinHash signatures", f"signatures {hashes}") for hashes in (112, 128, 260)),
    *(Contestant("text to MinHash signatures", f"rensa {hashes}", peer=True) for hashes in (128, 260)),
    *(Contestant("text to MinHash signatures", f"datasketch {hashes}", peer=True) for hashes in (128, 260)),
    Contestant("text to MinHash signatures", "datatrove signatures 112", peer=True, slow=True),
    Contestant("FineWeb's rules", "filters"),
    Contestant("FineWeb's rules", "datatrove filters", peer=True, slow=True),
    Contestant("JSONL to filtered and deduplicated", "pieces"),
    Contestant("JSONL to filtered and deduplicated", "verb", threads=2),
    Contestant("JSONL to filtered and deduplicated", "datatrove chain", peer=True, slow=True),
    Contestant("decontamination", "decontaminate"),
    Contestant("WARC to text", "warc"),
    Contestant("WARC to text", "warc, cleaned"),
    Contestant("WARC to text", "warc by hand"),
    Contestant("training a BPE of 32,000", "train", threads=2),
    Contestant("training a BPE of 32,000", "train by hand", threads=2),
    Contestant("encoding", "encode", threads=2),
    Contestant("encoding", "encode by hand", threads=2),
)
RATIOS = (
    ("signatures 112", "datatrove signatures 112"),
    ("signatures 128", "datasketch 128"),
    ("signatures 260", "datasketch 260"),
    ("signatures 128", "rensa 128"),
    ("signatures 260", "rensa 260"),
    ("filters", "datatrove filters"),
    ("pieces", "datatrove chain"),
    ("verb", "datatrove chain"),
    ("warc", "warc by hand"),
    ("warc, cleaned", "warc by hand"),
    ("train", "train by hand"),
    ("encode", "encode by hand"),
)


def main() -> None:
    said = parse()
    load = os.getloadavg()
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        corpora = said.data / "corpora" if (said.data / "corpora").is_dir() else said.data
        text_bytes = write_text(folder / "text.jsonl", corpora, said.megabytes)
        html_bytes = write_warc(folder / "pages.warc.gz", corpora)
        for number in range(said.rounds):
            for one in CONTESTANTS:
                if one.name in missing or (said.only and one.name not in said.only):
                    continue
                megabytes = min(SLOW_MEGABYTES if one.slow else said.megabytes, text_bytes / 1e6)
                run = measure(one, folder, said.peers, megabytes)
                if isinstance(run, str):
                    missing[one.name] = run
                    print(f"{one.name} is left out: {run}", flush=True)
                    continue
                run["megabytes"] = html_bytes / 1e6 if one.job == "WARC to text" else megabytes
                run["rate"] = run["megabytes"] / run["cpu_seconds"]
                print(f"round {number + 1}  {one.job:36}{one.name:26}{run['rate']:9.2f} MB a CPU second", flush=True)
                if one.name not in found or found[one.name]["cpu_seconds"] > run["cpu_seconds"]:
                    found[one.name] = run
    ratios = {f"{a} / {b}": found[a]["rate"] / found[b]["rate"] for a, b in RATIOS if a in found and b in found}
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} ×")
    same = {
        job: found[job]["result"] == found[f"{job} by hand"]["result"]
        for job in ("train", "encode")
        if job in found and f"{job} by hand" in found
    }
    for job, equal in same.items():
        print(f"{job}: {'identical' if equal else 'DIFFERENT'} results")
    if said.only is None:
        write({"load": load, "text_bytes": text_bytes, "html_bytes": html_bytes}, found, ratios, same, missing)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("MEGALITH_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data), required=data is None)
    parser.add_argument("--peers", type=Path, help="the Python of an environment that has the peers")
    parser.add_argument("--megabytes", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in CONTESTANTS], help="prints, writes nothing")
    return parser.parse_args()


def measure(one: Contestant, folder: Path, peers: Path | None, megabytes: float) -> dict[str, Any] | str:
    """The measurement of a contestant in a process of its own, or the last line of its error."""
    if one.peer and peers is None:
        return "no --peers"
    python, script = (peers, "theirs.py") if one.peer else (sys.executable, "ours.py")
    threads = str(one.threads)
    done = subprocess.run(
        [str(python), str(HERE / "curation" / script), one.name, str(folder), str(megabytes)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"},
    )
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    if not one.peer:
        raise SystemExit(done.stderr)
    return next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")


def write(
    about: dict[str, Any],
    found: dict[str, dict[str, Any]],
    ratios: dict[str, float],
    same: dict[str, bool],
    missing: dict[str, str],
) -> None:
    jobs = {one.name: one for one in CONTESTANTS}
    rows = [{"job": jobs[name].job, "name": name, "threads": jobs[name].threads, **run} for name, run in found.items()]
    figures = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_before": about.pop("load"),
        **about,
        "rows": rows,
        "ratios": ratios,
        "identical": same,
        "missing": missing,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
