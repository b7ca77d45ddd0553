"""Repeats, which stand in several documents or several times in one: found over all that is kept, in bounded memory.

Each partition lists its lines, paragraphs or passages by hash; ranges of hashes are then looked at one at a time, each
with what all partitions have in it, and say what is to be cut where. The first occurrence, in the order in which copies
of documents are preferred, is kept. 28 bytes of disk for each line, paragraph, or word of a passage.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from megalith.artifacts import whole
from megalith.curation.corpus.document_table import Array, Partition
from megalith.curation.engine import Task, Told, spread
from megalith.curation.passes import Decisions
from megalith.curation.ranks import rank, ranks_of
from megalith.curation.steps.repeats import KINDS, UNIT, repeats, units, wanted, without
from megalith.ngrams.sorted_sets import among
from megalith.recipe import RepeatsConfig

SPLITS = ("train", "validation")
ONLY_REPEATS = "nothing but repeats"
RANKS = "ranks"
RANGE_BYTES = 64_000_000
"""Units that are looked at at a time."""
CUT = np.dtype([("place", "<u4"), ("row", "<u4"), ("start", "<u4"), ("end", "<u4"), ("kind", "<u4")])


def find_repeats(
    decisions: Decisions,
    size: int,
    work: Path,
    tasks: Sequence[Task],
    config: RepeatsConfig,
    begin: Callable[[str], Told],
) -> None:
    """Write the places to cut under `work`/cuts; `size` is of the kept texts, in bytes."""
    for folder in ("units", "cuts"):
        (work / folder).mkdir(exist_ok=True)
    if not wanted(config):
        return
    rank(decisions, work / RANKS)
    for _ in spread(ListUnits(str(work), config), tasks, size, begin("lines, paragraphs and passages")):
        pass
    places = [int(task["number"]) for task in tasks]
    rows = np.array(decisions.table.first_rows(places), np.int64)
    chunks = decisions.table.chunk_of(rows)
    bases = np.array([chunk.base for chunk in decisions.table.chunks], np.int64)
    of_place = {"places": places, "chunks": chunks.tolist(), "firsts": (rows - bases[chunks]).tolist()}
    for kind in wanted(config):
        total = sum(_hashes(work, place, kind).size * UNIT.itemsize for place in places)
        many = 1 + total // RANGE_BYTES
        ranges: list[Task] = [{"number": number, "of": many, "kind": kind, **of_place} for number in range(many)]
        for _ in spread(ResolveRange(str(work)), ranges, total, begin(f"repeated {kind}")):
            pass


def cuts_of(work: Path, place: int) -> Array:
    """The places to cut in the texts of a partition: CUT by row, start and end."""
    found = [np.zeros(0, CUT)]
    for path in sorted((work / "cuts").glob("*.npy")):
        held = np.load(path, mmap_mode="r")
        first, last = np.searchsorted(held["place"], [place, place + 1])
        found.append(np.array(held[first:last]))
    made = np.concatenate(found)
    ordered: Array = made[np.lexsort((made["end"], made["start"], made["row"]))]
    return ordered


@dataclass(frozen=True)
class ListUnits:
    """Lists the units of the kept texts of a partition, by hash."""

    work: str
    config: RepeatsConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work, place = Path(self.work), task["number"]
        paths = {kind: work / "units" / f"{place:05d}-{kind}.npy" for kind in wanted(self.config)}
        if all(path.is_file() for path in paths.values()):
            return {}
        with np.load(work / "chosen" / f"{place:05d}.npz") as chosen:
            rows = np.sort(np.concatenate([chosen[split] for split in SPLITS]))
        held: dict[str, list[Array]] = {kind: [np.zeros(0, UNIT)] for kind in paths}
        for some, table in Partition.of_task(task["partition"]).batches(rows, ["text"]):
            for kind, found in units(table["text"].combine_chunks(), some, self.config).items():
                held[kind].append(found)
        for kind, path in paths.items():
            made = np.concatenate(held[kind])
            made = made[np.argsort(made["hash"], kind="stable")]
            with whole(path.with_suffix(".hashes")) as temporary:
                made["hash"].tofile(temporary)
            with whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, made)
        return {}


@dataclass(frozen=True)
class ResolveRange:
    """Says for a range of hashes which units are repeats of others."""

    work: str

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work, kind = Path(self.work), task["kind"]
        path = work / "cuts" / f"{kind}-{task['number']:05d}.npy"
        if path.is_file():
            return {}
        ends = [task["number"] * 2**64 // task["of"], (task["number"] + 1) * 2**64 // task["of"]]
        found, places, orders = [np.zeros(0, UNIT)], [np.zeros(0, np.uint32)], [np.zeros(0, np.uint64)]
        for place, chunk, first_row in zip(task["places"], task["chunks"], task["firsts"], strict=True):
            hashes = _hashes(work, place, kind)
            first = int(np.searchsorted(hashes, np.uint64(ends[0])))
            last = len(hashes) if ends[1] == 2**64 else int(np.searchsorted(hashes, np.uint64(ends[1])))
            some = np.array(np.load(work / "units" / f"{place:05d}-{kind}.npy", mmap_mode="r")[first:last])
            found.append(some)
            places.append(np.full(len(some), place, np.uint32))
            orders.append(np.asarray(ranks_of(work / RANKS, chunk)[first_row + some["row"].astype(np.int64)]))
        unit = np.concatenate(found)
        repeated, starts = repeats(unit, np.concatenate(orders))
        made = np.empty(len(repeated), CUT)
        made["place"], made["start"] = np.concatenate(places)[repeated], starts
        made["row"], made["end"] = unit["row"][repeated], unit["end"][repeated]
        made["kind"] = KINDS.index(kind)
        with whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, made[np.lexsort((made["start"], made["row"], made["place"]))])
        return {}


def _hashes(work: Path, place: int, kind: str) -> Array:
    """The ascending hashes of a partition's units; not read before they are looked at."""
    path = work / "units" / f"{place:05d}-{kind}.hashes"
    return np.memmap(path, np.uint64, "r") if path.stat().st_size else np.zeros(0, np.uint64)


class CutRepeats:
    """Cuts repeats out of the texts of a partition; a text of which nothing is left is dropped."""

    def __init__(self, cuts: Array) -> None:
        self.cuts = cuts
        self.counts: Counter[str] = Counter()
        self.dropped: list[tuple[int, str]] = []

    def __call__(self, table: pa.Table, rows: Array) -> tuple[pa.Table, Array]:
        """The table (with a column `text`) of these rows without what is cut, and the rows that are left."""
        if not len(self.cuts):
            return table, rows
        texts = table["text"].to_pylist()
        left = np.ones(len(rows), bool)
        for at in np.flatnonzero(among(rows, self.cuts["row"])).tolist():
            first, last = np.searchsorted(self.cuts["row"], [rows[at], rows[at] + 1])
            own = self.cuts[first:last]
            made = without(texts[at], _joined(own))
            if not any(map(str.isalnum, made)):
                made = ""
            for kind, count in zip(*np.unique(own["kind"], return_counts=True), strict=True):
                self.counts[KINDS[kind]] += int(count)
            self.counts["documents"] += 1
            self.counts["bytes"] += len(texts[at].encode()) - len(made.encode())
            texts[at] = made
            if not made:
                left[at] = False
                self.dropped.append((int(rows[at]), ONLY_REPEATS))
        column = table.column_names.index("text")
        changed = table.set_column(column, table.schema.field("text"), pa.array(texts, table.schema.field("text").type))
        return changed.filter(pa.array(left)), rows[left]


def _joined(cuts: Array) -> list[tuple[int, int]]:
    """The spans of cuts by their start, those that overlap as one."""
    made: list[tuple[int, int]] = []
    for start, end in zip(cuts["start"].tolist(), cuts["end"].tolist(), strict=True):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return made
