"""One run of `curate_scale.py`, in a process of its own.

python benchmarks/curation/scale_worker.py one|two|decide SOURCE PLACE SETTINGS

Curates SOURCE (or decides about so many made-up documents, for `decide`) and leaves PLACE/told.json.
"""

import importlib
import json
import resource
import shutil
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock


def main() -> None:
    mode, source, place, settings = sys.argv[1:]
    if mode == "decide":
        told = decide_alone(int(source), Path(place))
    else:
        told = curated(Path(source), Path(place), json.loads(settings), one=mode == "one")
    used = resource.getrusage(resource.RUSAGE_SELF)
    told["own_cpu_seconds"] = round(used.ru_utime + used.ru_stime, 3)
    status = Path("/proc/self/status").read_text().splitlines()
    told["peak_bytes"] = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    (Path(place) / "told.json").write_text(json.dumps(told))


def curated(source: Path, place: Path, settings: dict[str, Any], *, one: bool) -> dict[str, Any]:
    """Curate; on one core, with CPU seconds by step and the bytes of what is thrown away at the end."""
    from megalith.recipe import Recipe

    shuffled: Counter[str] = Counter()
    spent: defaultdict[str, float] = defaultdict(float)
    if one:
        _count_cpu_seconds(spent)
        remove = shutil.rmtree

        def counted(path: Any, *arguments: Any, **named: Any) -> None:
            if Path(path).name == "work":
                for folder in Path(path).iterdir():
                    shuffled[folder.name] += _bytes_of(folder) if folder.is_dir() else folder.stat().st_size
            remove(path, *arguments, **named)

        mock.patch.object(shutil, "rmtree", counted).start()
    made = importlib.import_module("megalith.curation.curate").curate(
        Recipe.model_validate(settings), place / "curate", [source]
    )
    if not one:
        return {}
    facts = made.facts
    documents = json.loads((place / "curate-documents" / "manifest.json").read_text())["facts"]
    total = time.process_time()
    steps = {f"map {name}": seconds for name, seconds in documents["seconds"].items()}
    lines = {line["name"]: line["seconds"] for line in facts["steps"]}
    steps["cut and write runs"] = lines["decontaminate"] - spent["n-grams of tasks"]
    steps["n-grams of tasks"] = spent["n-grams of tasks"]
    for name in ("language", "heuristics", "exact", "minhash"):
        steps[f"driver {name}"] = lines[name] - documents["seconds"].get(name, 0.0) * (name != "exact")
    steps["driver held out"] = lines["held_out"]
    steps["driver merge"] = spent["merge"]
    lines_read = lines["extract"] - documents["seconds"].get("extract", 0.0)
    steps["driver load"] = lines_read
    steps["start and rest"] = total - sum(steps.values())
    return {
        "documents": documents["documents"],
        "documents_kept": facts["documents_out"],
        "bytes_extracted": facts["bytes_in"],
        "bytes_kept": facts["bytes_out"],
        "units": documents["units"],
        "cpu_seconds": round(total, 3),
        "steps": {name: round(seconds, 4) for name, seconds in steps.items()},
        "disk": {
            **{name: _bytes_of(place / "curate-documents" / name) for name in ("text", "signatures", "bands")},
            "kept": _bytes_of(place / "curate"),
            **shuffled,
        },
    }


def _count_cpu_seconds(spent: defaultdict[str, float]) -> None:
    """Have the steps' clocks count CPU seconds, and clock what has no line of its own."""
    for name in ("partition", "funnel"):
        clock = SimpleNamespace(monotonic=time.process_time)
        mock.patch(f"megalith.curation.{name}.time", clock).start()
    kept: Any = importlib.import_module("megalith.curation.write")
    merge, count = kept.merge_runs, kept.CountNgrams.__call__

    def merged(*arguments: Any) -> None:
        begun = time.process_time()
        merge(*arguments)
        spent["merge"] += time.process_time() - begun

    def ngrams(self: Any, task: Any) -> Any:
        begun = time.process_time()
        told = count(self, task)
        spent["n-grams of tasks"] += time.process_time() - begun
        return told

    kept.merge_runs = merged
    kept.CountNgrams.__call__ = ngrams


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def decide_alone(count: int, place: Path) -> dict[str, Any]:
    """Exact and near-duplicates among so many made-up documents, found in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from curation.made_up_columns import write_table
    from megalith.curation.duplicates import find_exact, find_near
    from megalith.recipe import MinHashConfig

    def work(documents: int, folder: Path) -> None:
        table = write_table(folder, documents)
        begun = time.process_time()
        find_exact(table, folder / "exact", lambda done, total: None)
        find_near(table, folder / "near", MinHashConfig(), lambda done, total: None)
        spent.append(time.process_time() - begun)

    spent: list[float] = []
    work(1000, place / "few")  # compiles
    status = Path("/proc/self/status").read_text().splitlines()
    before = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    work(count, place / "many")
    return {"documents": count, "cpu_seconds": round(spent[-1], 3), "bytes_before": before}


if __name__ == "__main__":
    main()
