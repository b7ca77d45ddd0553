"""Groups of copies, and the answers about them: which row is lost for the sake of which other."""

from pathlib import Path

import numpy as np

from megalith.curation.corpus.document_table import Array
from megalith.curation.corpus.table import Table, preferred
from megalith.curation.exchange import deal, dealt
from megalith.ngrams.words import MIX

ANSWER = np.dtype([("row", "<u8"), ("kept", "<u8"), ("earlier", "?")])
"""A copy, the row that stands for it, and whether that one is of an earlier artifact."""


def copies(records: Array, groups: tuple[Array, ...]) -> tuple[Array, Array]:
    """The places of the copies that go, and of the one that stands for each, in groups of several records.

    Records that have all of `groups` (arrays, records) in common are a group. Of each the record stays that is
    preferred, of equals the first.
    """
    mixed = groups[0]
    for keys in groups[1:]:
        mixed = mixed ^ (keys * MIX)
    order = np.argsort(mixed)
    ordered = mixed[order]
    same = np.zeros(len(ordered) + 1, bool)
    same[1:-1] = ordered[1:] == ordered[:-1]
    several = np.sort(order[same[1:] | same[:-1]])
    order = several[np.lexsort((*preferred(records[several]), *(keys[several] for keys in groups)))]
    first = np.zeros(len(order), bool)
    first[:1] = True
    for keys in groups:
        first[1:] |= keys[order[1:]] != keys[order[:-1]]
    kept = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    return order[~first], kept[~first]


def answer(folder: Path, number: int, table: Table, rows: Array, kept: Array, earlier: Array) -> None:
    """Write what a task has found for those who hold the chunks of these rows."""
    made = np.empty(len(rows), ANSWER)
    made["row"], made["kept"], made["earlier"] = rows, kept, earlier
    deal(folder / f"{number:05d}", made, table.chunk_of(rows), len(table.chunks))


def answers_of(folder: Path, table: Table, chunk: int) -> Array:
    """All answers about a chunk, ascending by row."""
    parts = [part for _, part in dealt(folder, chunk, len(table.chunks), ANSWER)]
    found = np.concatenate([np.zeros(0, ANSWER), *parts])
    ordered: Array = found[np.argsort(found["row"], kind="stable")]
    return ordered
