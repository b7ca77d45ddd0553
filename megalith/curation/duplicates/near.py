"""Near-duplicates: candidates by bands, their components, and in each of these the verified pairs.

1. Each chunk deals out its keys, a band at a time; a reader finds the documents that share one.
2. The graph of all candidates falls into components, which have no key in common (`connect`).
3. Components are looked at some at a time, with their signatures, as `steps.dedup` does with all: what it finds for one
   does not depend on the others, so the outcome is the same as if it had seen them together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Array
from megalith.curation.corpus.table import Table, standing
from megalith.curation.duplicates import connect
from megalith.curation.duplicates.answers import answer, copies
from megalith.curation.duplicates.exact import BYTES_A_DOCUMENT
from megalith.curation.engine import Task, Told, spread
from megalith.curation.exchange import deal, dealt, in_windows, reader_of
from megalith.curation.steps.dedup import band_keys, find_components
from megalith.curation.steps.dedup.components import HELD_SIGNATURES
from megalith.curation.steps.dedup.minhash import EMPTY
from megalith.ngrams.sorted_sets import different
from megalith.recipe import MinHashConfig

KEYS = 1 << 19
"""Keys of each band for a reader, about."""
CANDIDATES = 1 << 15
"""Looked at at a time, about: 34 MB of signatures at 260 hashes."""
KEYED = np.dtype([("key", "<u8"), ("row", "<u4")])


def find_near(table: Table, work: Path, config: MinHashConfig, told: Told) -> tuple[Path, int]:
    """Find the near-duplicates among the documents that stand.

    Returns the folder of the answers, and how many buckets were so large, and so little alike, that not every pair in
    them was compared.
    """
    for name in ("edges", "found", *_bands(config)):
        (work / name).mkdir(parents=True, exist_ok=True)
    size = len(table)
    readers = 1 + size // KEYS
    weight = BYTES_A_DOCUMENT * size
    chunks: list[Task] = [{"number": chunk.number} for chunk in table.chunks]
    shares: list[Task] = [{"number": number} for number in range(readers)]
    for _ in spread(DealKeys(table, str(work), readers, config), chunks, weight, told):
        pass
    edges = 0
    for _, found in spread(FindCandidates(table, str(work), readers, config), shares, weight, told):
        edges += found["edges"]
    many = connect.connect(work, readers, edges, weight, told, lambda edges: 1 + 2 * edges // CANDIDATES)
    cut_short = 0
    tasks: list[Task] = [{"number": number} for number in range(many)]
    for _, found in spread(Verify(table, str(work), many, config), tasks, weight, told):
        cut_short += found["cut_short"]
    return work / "found", cut_short


@dataclass(frozen=True)
class DealKeys:
    """Deals out the keys of the documents of a chunk that stand and have words."""

    table: Table
    work: str
    readers: int
    config: MinHashConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        table, number, config = self.table, task["number"], self.config
        keys = table.keys(number, config.bands)
        without_words = band_keys(np.full((1, config.bands * config.rows), EMPTY, np.uint32), config.bands, config.rows)
        worded = np.zeros(keys.shape[1], bool)
        for band in range(config.bands):
            worded |= keys[band] != without_words[0, band]
        rows = standing(table.records(number))
        rows = rows[worded[rows]]
        for band, name in enumerate(_bands(config)):
            made = np.empty(len(rows), KEYED)
            made["key"], made["row"] = keys[band, rows], rows
            deal(Path(self.work) / name / f"{number:05d}", made, reader_of(made["key"], self.readers), self.readers)
        return {}


@dataclass(frozen=True)
class FindCandidates:
    """Joins the documents that share a key, of the keys of a share."""

    table: Table
    work: str
    readers: int
    config: MinHashConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        work, number = Path(self.work), task["number"]
        bases = np.array([chunk.base for chunk in self.table.chunks], np.uint64)
        held = [np.zeros(0, connect.EDGE)]
        count, most = 0, 2 * connect.MOST_EDGES
        for name in _bands(self.config):
            for edges in _of_one_key(work / name, number, self.readers, bases):
                held.append(edges)
                count += len(edges)
                if count > most:
                    held = [connect.joined(np.concatenate(held))]
                    count = len(held[0])
                    most = max(most, 2 * count)
        edges = connect.joined(np.concatenate(held))
        connect.deal_edges(work / "edges" / f"{number:05d}", edges, self.readers)
        return {"edges": len(edges)}


@dataclass(frozen=True)
class Verify:
    """Compares the candidates of some components, and says which documents are copies of which."""

    table: Table
    work: str
    many: int
    config: MinHashConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        table, work, number, config = self.table, Path(self.work), task["number"], self.config
        edges = connect.stars(work, number, self.many)
        rows = different(np.concatenate([edges["low"], edges["high"]]))
        hashes = config.bands * config.rows
        if not len(rows):
            return {"cut_short": 0}
        if len(rows) <= HELD_SIGNATURES:
            signed = table.signatures_of(rows, hashes)
            keys = band_keys(signed, config.bands, config.rows)
            found = find_components(
                len(rows), config.bands, config.rows, config.minimum_jaccard,
                lambda band: keys[:, band], lambda places: signed[places],
            )  # fmt: skip
        else:
            found = find_components(
                len(rows), config.bands, config.rows, config.minimum_jaccard,
                lambda band: table.keys_of(rows, band), lambda places: table.signatures_of(rows[places], hashes),
            )  # fmt: skip
        records = table.take(rows)
        lost, kept = copies(records, (found.roots.astype(np.uint64),))
        answer(work / "found", number, table, rows[lost], rows[kept], records["dataset"][kept] < 0)
        return {"cut_short": int(found.buckets_cut_short)}


def _bands(config: MinHashConfig) -> list[str]:
    return [f"band-{band:03d}" for band in range(config.bands)]


def _of_one_key(folder: Path, reader: int, readers: int, bases: Array) -> Iterator[Array]:
    """Edges among the documents of each key: from one of them to every other."""
    kind = np.dtype([("key", "<u8"), ("row", "<u8")])

    def numbered(writer: int, part: Array) -> Array:
        made = np.empty(len(part), kind)
        made["key"], made["row"] = part["key"], part["row"] + bases[writer]
        return made

    before = np.zeros(0, kind)
    parts = (numbered(writer, part) for writer, part in dealt(folder, reader, readers, KEYED))
    for some in in_windows(parts, kind):
        some = np.concatenate([before, some])
        order = np.argsort(some["key"])
        keys = some["key"][order]
        first = np.ones(len(keys), bool)
        first[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(first)
        others = np.flatnonzero(~first)
        centres = some["row"][order[starts[np.searchsorted(starts, others, side="right") - 1]]]
        rows = some["row"][order[others]]
        edges = np.empty(len(rows), connect.EDGE)
        edges["low"], edges["high"] = np.minimum(centres, rows), np.maximum(centres, rows)
        yield edges
        before = some[order[starts]]
