"""The way out of the funnel for what passed it: cut repeats, decontaminate, mask, and write both splits by id.

Two passes over the texts, resumed by partition: one counts what n-grams of tasks stand in training text, for the
frequent ones are common language and stay; one cuts and writes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from megalith.artifacts import Workspace
from megalith.curation.corpus.document_table import Array, Columns
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.corpus.table import Table
from megalith.curation.domains import Domains, deal_domains, largest_domains, readers_of
from megalith.curation.engine import Task, Told, spread
from megalith.curation.exchange import unsynced
from megalith.curation.merge import buckets_for, merge_runs
from megalith.curation.passes import Decisions
from megalith.curation.repeats import find_repeats
from megalith.curation.runs import ONLY_REPEATS, SPLITS, CountNgrams, WriteRuns, save_ngrams, written_of
from megalith.curation.steps.decontaminate import union, without
from megalith.curation.steps.repeats import wanted
from megalith.curation.steps.task_texts import Items, index_table, ngrams_by_task
from megalith.ngrams.find import Ngrams
from megalith.ngrams.sorted_sets import different
from megalith.recipe import CurateConfig

WORK = "work"
MOST_DOMAINS = 200
"""Told by name."""


@dataclass(frozen=True)
class Kept:
    """The written documents."""

    documents: Mapping[str, int]
    """By split."""
    decontamination: Mapping[str, Any]
    repeats: Mapping[str, int]
    """Repeated lines, paragraphs and passages that were cut, the documents that had some, and the bytes."""
    private: Mapping[str, int]
    domains: Domains
    work: Path
    """May be removed."""


def write_kept(
    workspace: Workspace,
    decisions: Decisions,
    items: Mapping[str, Items],
    config: CurateConfig,
    datasets: Sequence[Dataset],
    begin: Callable[[str], Told],
) -> Kept:
    """Write `train`, `validation` and `ngrams.parquet`, and end the funnel's last step."""
    work, funnel = workspace.path / WORK, decisions.funnel
    kept_bytes = funnel.left()[1]
    tasks = _choose(decisions, work, datasets)
    find_repeats(decisions, kept_bytes, work, tasks, config.repeats, begin)
    by_task = ngrams_by_task(items, config.decontaminate)
    told = begin("n-grams of tasks")
    save_ngrams(work / "wanted.npz", by_task)
    if any(len(held) for sets in by_task.values() for held in sets.values()):
        for _ in spread(CountNgrams(str(work)), tasks, kept_bytes, told):
            pass
    hashes, times = _add_up(work / "counts", by_task)
    frequent = hashes[times >= config.decontaminate.frequent]
    used = {task: without(held, frequent) for task, held in by_task.items()}
    save_ngrams(work / "used.npz", used)
    with workspace.file("ngrams.parquet") as path:
        index = index_table(items, config.decontaminate, hashes, times, frequent)
        pq.write_table(index, path, compression="zstd")
    buckets = buckets_for(kept_bytes)
    sums: dict[str, Counter[str]] = {name: Counter() for name in ("documents", "bytes", "private", "cut", "repeats")}
    hits: dict[str, Counter[str]] = {task: Counter() for task in by_task}
    cut_and_write = WriteRuns(str(work), buckets, config.decontaminate, config.private)
    for _, answer in spread(cut_and_write, tasks, kept_bytes, begin("decontaminate and write")):
        for name, counted in sums.items():
            counted.update(answer[name])
        for name, found in answer["hits"].items():
            hits[name].update(found)
    decisions.change(Conclude(str(work), decisions.table, readers_of(len(decisions.table))))
    domains = largest_domains(decisions, work / "domains", MOST_DOMAINS)
    if wanted(config.repeats):
        funnel.line(
            "repeats", bytes_out=kept_bytes - sums["repeats"]["bytes"], mend="Raise curate.repeats.minimum_words."
        )
    funnel.line(
        "decontaminate",
        mend="Use more text, or lower curate.task_items.most.",
        split_off=sums["cut"]["split_off"],
        bytes_out=sums["bytes"].total(),
    )
    begin("write")
    merge_runs(workspace, work / "runs", buckets)
    counts = {
        name: sums["cut"][name] for name in ("documents_trimmed", "documents_split", "documents_dropped", "matches")
    }
    by_task_counts = {
        task: {
            "texts": sum(len(texts) for _, texts in items[task]),
            "ngrams": _size(held),
            "frequent_ngrams": _size(held) - _size(used[task]),
            "matches": hits[task]["matches"],
            "documents": hits[task]["documents"],
        }
        for task, held in sorted(by_task.items())
    }
    written = {split: sums["documents"][split] for split in SPLITS}
    return Kept(written, {**counts, "tasks": by_task_counts}, sums["repeats"], sums["private"], domains, work)


def _choose(decisions: Decisions, work: Path, datasets: Sequence[Dataset]) -> list[Task]:
    """Tell the workers which rows of each partition are for which split."""
    for folder in ("chosen", "counts", "runs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    places: list[int] = []
    decisions.look(Choose(decisions.table, str(work / "chosen")), lambda answer: places.extend(answer["places"]))
    partitions = decisions.table.partitions()
    return [
        {"number": place, "partition": partitions[place].task, "source": datasets[partitions[place].dataset].name}
        for place in places
    ]


@dataclass(frozen=True)
class Choose:
    """Writes the rows of each partition that are for each split; says which partitions have some."""

    table: Table
    folder: str

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        places = []
        for place, partition in enumerate(columns.partitions, start=self.table.chunk(columns.number).first):
            span = columns.span(place - self.table.chunk(columns.number).first)
            alive, validation = columns.reason[span] == 0, columns.validation[span]
            if partition.dataset < 0 or not alive.any():
                continue
            with unsynced(Path(self.folder) / f"{place:05d}.npz") as path, path.open("wb") as file:
                np.savez(file, train=np.flatnonzero(alive & ~validation), validation=np.flatnonzero(alive & validation))
            places.append(place)
        return {"places": places}


@dataclass(frozen=True)
class Conclude:
    """Drops the documents of which repeats or what tasks ask left nothing, and deals out the domains of the others."""

    work: str
    table: Table
    readers: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        work, first = Path(self.work), self.table.chunk(columns.number).first
        domains: dict[str, list[int]] = {}
        for place in range(len(columns.partitions)):
            written = written_of(work / "runs", first + place)
            for name, (documents, size) in written.domains.items():
                held = domains.setdefault(name, [0, 0])
                held[0] += documents
                held[1] += size
            for row, reason in written.dropped:
                step = "repeats" if reason == ONLY_REPEATS else "decontaminate"
                columns.drop(step, reason, np.array([columns.bounds[place] + row]))
        deal_domains(work / "domains", columns.number, domains, self.readers)
        return {}


def _add_up(folder: Path, by_task: Mapping[str, Ngrams]) -> tuple[Array, Array]:
    """The n-grams of all tasks, ascending, and how often each stood in training text."""
    hashes = different(np.concatenate([np.zeros(0, np.uint64), *union(by_task.values()).values()]))
    times = np.zeros(len(hashes), np.int64)
    for path in folder.glob("*.npz"):
        with np.load(path) as found:
            times[np.searchsorted(hashes, found["hashes"])] += found["times"]
    return hashes, times


def _size(held: Mapping[int, Array]) -> int:
    return sum(map(len, held.values()))
