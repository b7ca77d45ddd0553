"""The two passes over the texts that are kept: which n-grams of tasks stand in them, and their way out.

Each is a task a partition, as the map. The second cuts what tasks ask out of training text, masks private data, and
writes runs: Arrow files of as many batches as there are buckets of ids, which `merge` puts in order.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from megalith.artifacts import whole
from megalith.curation.corpus.document_table import Array, Partition, halves, names
from megalith.curation.corpus.languages import main_languages
from megalith.curation.engine import Task
from megalith.curation.parquet_splits import OUTPUT
from megalith.curation.repeats import ONLY_REPEATS, SPLITS, CutRepeats, cuts_of
from megalith.curation.steps.decontaminate import characters, cut, match_spans, union
from megalith.curation.steps.pii import mask
from megalith.ngrams.find import Ngrams, find_matches
from megalith.ngrams.sorted_sets import among, different
from megalith.recipe import DecontaminateConfig, PrivateConfig

RUN_BYTES = 64_000_000
"""Bytes of text in a run: a partition with more writes several runs."""
__all__ = ["ONLY_REPEATS", "SPLITS", "CountNgrams", "WriteRuns", "save_ngrams", "written_of"]
BESIDE_TEXT = ("source_id", "metadata")
RUN = pa.schema([(name, pa.large_string()) for name in OUTPUT])


def save_ngrams(path: Path, by_task: Mapping[str, Ngrams]) -> None:
    """Write the n-grams of tasks for the workers."""
    held: dict[str, Any] = {f"{size} {task}": one for task, sets in by_task.items() for size, one in sets.items()}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **held)


def load_ngrams(path: Path) -> dict[str, Ngrams]:
    """Read the file that `save_ngrams` wrote."""
    found: dict[str, dict[int, Array]] = {}
    with np.load(path) as file:
        for name in file.files:
            size, _, task = name.partition(" ")
            found.setdefault(task, {})[int(size)] = file[name]
    return dict(sorted(found.items()))


def _ngrams(path: Path) -> dict[str, Ngrams]:
    return _held(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _held(path: Path, _: int) -> dict[str, Ngrams]:
    return load_ngrams(path)


@dataclass(frozen=True)
class CountNgrams:
    """Counts each n-gram of tasks in the training texts of a partition, and notes the documents with one."""

    work: str

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work = Path(self.work)
        path = work / "counts" / f"{task['number']:05d}.npz"
        if path.is_file():
            return {}
        wanted = union(_ngrams(work / "wanted.npz").values())
        chosen = np.load(work / "chosen" / f"{task['number']:05d}.npz")["train"]
        hashes: list[Array] = []
        touched: list[Array] = []
        for rows, table in Partition.of_task(task["partition"]).batches(chosen, ["text"]):
            found = find_matches(table["text"].combine_chunks(), wanted)
            hashes.append(found.hashes)
            touched.append(rows[different(found.documents)])
        values, times = (
            np.unique(np.concatenate(hashes), return_counts=True) if hashes else (np.zeros(0, np.uint64),) * 2
        )
        with whole(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                hashes=values,
                times=times.astype(np.int64),
                touched=np.concatenate(touched or [np.zeros(0, np.int64)]),
            )
        return {}


@dataclass(frozen=True)
class WriteRuns:
    """Cuts, masks and writes the kept documents of a partition."""

    work: str
    buckets: int
    decontaminate: DecontaminateConfig
    private: PrivateConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work, place = Path(self.work), task["number"]
        mark = work / "runs" / f"{place:05d}.json"
        if mark.is_file():
            return _answer(json.loads(mark.read_text()))
        chosen = np.load(work / "chosen" / f"{place:05d}.npz")
        counts = work / "counts" / f"{place:05d}.npz"
        touched = np.load(counts)["touched"] if counts.is_file() else np.zeros(0, np.int64)
        without_repeats = CutRepeats(cuts_of(work, place))
        cutter = _Cutter(_ngrams(work / "used.npz") if len(touched) else {}, self.decontaminate)
        run = _Run(work / "runs", place, self.buckets)
        masked: Counter[str] = Counter()
        partition = Partition.of_task(task["partition"])
        for split in SPLITS:
            for rows, table in partition.batches(chosen[split], ["id", "url", "text", "languages", *BESIDE_TEXT]):
                made, left = without_repeats(_rows(table, task["source"]), rows)
                if split == "train" and len(touched):
                    made = cutter(made, left, among(left, touched))
                texts, found = mask(made["text"].combine_chunks(), self.private)
                masked.update(found)
                run.add(
                    split,
                    made.set_column(made.column_names.index("text"), RUN.field("text"), texts.cast(pa.large_string())),
                )
            run.flush(split)
        told = {
            "documents": dict(run.documents),
            "bytes": dict(run.bytes),
            "runs": run.number,
            "domains": {name: list(pair) for name, pair in run.domains.items()},
            "private": dict(masked),
            "cut": dict(cutter.counts),
            "repeats": dict(without_repeats.counts),
            "dropped": [*without_repeats.dropped, *cutter.dropped],
            "hits": {name: dict(found) for name, found in cutter.hits.items()},
        }
        with whole(mark) as path:
            path.write_text(json.dumps(told))
        return _answer(told)


def _answer(told: Mapping[str, Any]) -> dict[str, Any]:
    """Sums alone: the rest is read from the file by those who have the chunk."""
    return {name: value for name, value in told.items() if name not in ("dropped", "domains")}


@dataclass(frozen=True)
class Written:
    """The documents of a partition of which nothing was left to write, and the domains of the others."""

    dropped: list[tuple[int, str]]
    """Rows, and why."""
    domains: dict[str, list[int]]
    """Documents and bytes of each."""


def written_of(runs: Path, place: int) -> Written:
    """The outcome of a partition; of one that had nothing to write, nothing."""
    mark = runs / f"{place:05d}.json"
    if not mark.is_file():
        return Written([], {})
    told = json.loads(mark.read_text())
    return Written([(row, reason) for row, reason in told["dropped"]], told["domains"])


class _Cutter:
    """Cuts what tasks ask out of texts. A document left in one piece keeps its id; pieces have -1, -2, … behind."""

    def __init__(self, by_task: Mapping[str, Ngrams], config: DecontaminateConfig) -> None:
        self.by_task = by_task
        self.config = config
        self.wanted = union(by_task.values())
        self.counts: Counter[str] = Counter()
        self.hits: dict[str, Counter[str]] = {task: Counter() for task in by_task}
        self.dropped: list[tuple[int, str]] = []

    def __call__(self, table: pa.Table, rows: Array, touched: Array) -> pa.Table:
        places = np.flatnonzero(touched)
        untouched = table.take(pa.array(np.flatnonzero(~touched)))
        pieces = [
            piece
            for row, document in zip(rows[places].tolist(), table.take(pa.array(places)).to_pylist(), strict=True)
            for piece in self._pieces(row, document)
        ]
        return pa.concat_tables([untouched, pa.Table.from_pylist(pieces, RUN)])

    def _pieces(self, row: int, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        text = pa.array([document["text"]], pa.large_string())
        spans = match_spans(text, self.wanted)[0]
        if not spans:  # frequent n-grams alone
            yield document
            return
        pieces = cut(document["text"], characters(document["text"], spans), self.config)
        reason = (
            "nothing left" if not pieces else "too many pieces" if len(pieces) > self.config.maximum_pieces else None
        )
        self.counts["matches"] += len(spans)
        for task, held in self.by_task.items():
            found = len(match_spans(text, held)[0])
            if found:
                self.hits[task].update(matches=found, documents=1)
        if reason is not None:
            self.counts["documents_dropped"] += 1
            self.dropped.append((row, reason))
            return
        self.counts["documents_trimmed" if len(pieces) == 1 else "documents_split"] += 1
        self.counts["split_off"] += len(pieces) - 1
        for number, piece in enumerate(pieces, start=1):
            yield document | {"text": piece, "id": document["id"] if len(pieces) == 1 else f"{document['id']}-{number}"}


class _Run:
    """Gathers rows and writes them by bucket."""

    def __init__(self, folder: Path, place: int, buckets: int) -> None:
        self.folder, self.place, self.buckets = folder, place, buckets
        self.number: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self.documents: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.domains: dict[str, list[int]] = {}
        self._held: list[pa.Table] = []
        self._bytes = 0

    def add(self, split: str, table: pa.Table) -> None:
        sizes = pc.binary_length(table["text"]).to_pylist()
        self.documents[split] += len(table)
        self.bytes[split] += sum(sizes)
        for url, size in zip(table["url"].to_pylist(), sizes, strict=True):
            held = self.domains.setdefault(_domain(url), [0, 0])
            held[0] += 1
            held[1] += size
        self._held.append(table)
        self._bytes += sum(sizes)
        if self._bytes >= RUN_BYTES:
            self.flush(split)

    def flush(self, split: str) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        buckets = bucket(table["id"], self.buckets)
        order = np.argsort(buckets, kind="stable")
        bounds = np.searchsorted(buckets[order], np.arange(self.buckets + 1))
        path = self.folder / run_name(self.place, split, self.number[split])
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        with whole(path) as temporary, pa.ipc.new_file(temporary, RUN, options=options) as file:
            for first, last in pairwise(bounds.tolist()):
                part = table.take(pa.array(order[first:last])).combine_chunks()
                file.write_batch(part.to_batches()[0] if len(part) else pa.RecordBatch.from_pylist([], RUN))
        self.number[split] += 1
        self._held, self._bytes = [], 0


def run_name(place: int, split: str, number: int) -> str:
    return f"{place:05d}-{split}-{number:03d}.arrow"


def bucket(ids: pa.ChunkedArray, buckets: int) -> Array:
    """The bucket of each id, ascending with ids."""
    heads = np.array([int(name[:8], 16) for name in ids.to_pylist()], np.uint64)
    return (heads * np.uint64(buckets)) >> np.uint64(32)


def _rows(table: pa.Table, source: str) -> pa.Table:
    ids = pa.array(names(halves(table["id"])), pa.large_string())
    language = pa.array(main_languages(table["languages"]), pa.large_string())
    sources = pa.array([source] * len(table), pa.large_string())
    beside = [table[name] for name in BESIDE_TEXT]
    return pa.table([ids, table["url"], sources, table["text"], language, *beside], schema=RUN)


def _domain(url: str | None) -> str:
    try:
        return (urlsplit(url or "").hostname or "").removeprefix("www.")
    except ValueError:
        return ""
