"""The columns of made-up documents: fingerprints, sizes, scores, MinHash keys, and signatures of those that are alike.

One in eight documents is of a text that stands more than once, one in ten of a page of which there are versions, with
up to fifteen of a hundred places of the signature changed; some pages have hundreds (drawn by a power law).
The rest are like no other: they have keys but no signature, for none is read.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import RECORD, Partition
from megalith.curation.corpus.table import Table
from megalith.curation.steps.dedup import band_keys
from megalith.ngrams.words import MIX

Array = np.ndarray[Any, np.dtype[Any]]
BANDS, ROWS = 20, 13
HASHES = BANDS * ROWS
PARTITION = 1 << 17
EXACT, NEAR = 0.125, 0.1
DIFFERENT = 0.4
"""Texts that stand more than once, and pages with versions, for each document that is of one."""
STEEPNESS = 1.5
CHANGED = 39
"""Places of a signature, at most."""


def write_table(place: Path, documents: int, seed: int = 0) -> Table:
    """Write the columns of so many documents under a folder; the same whatever is in memory at a time."""
    for name in ("signatures", "bands"):
        (place / name).mkdir(parents=True, exist_ok=True)
    sizes = [min(PARTITION, documents - start) for start in range(0, documents, PARTITION)]
    partitions = [Partition(place, number, 0, size) for number, size in enumerate(sizes)]
    table = Table.create(place / "table", partitions)
    for chunk in table.chunks:
        columns = table.new(chunk.number)
        made = [_write(partition, documents, seed) for partition in partitions[chunk.first : chunk.end]]
        columns.records[:] = np.concatenate(made)
        table.save(columns)
    return table


def _write(partition: Partition, documents: int, seed: int) -> Array:
    draws = np.random.default_rng([seed, partition.number])
    count = partition.rows
    records = np.zeros(count, RECORD)
    for name in ("identity", "fingerprint", "copy"):
        records[name] = draws.integers(0, 2**64, records[name].shape, dtype=np.uint64)
    records["kept"] = -1
    records["bytes"], records["quality"] = draws.integers(200, 20_000, count), draws.random(count)
    keys = draws.integers(0, 2**64, (BANDS, count), dtype=np.uint64)
    kind = draws.random(count)
    copied = np.flatnonzero(kind < EXACT)
    records["fingerprint"][copied, 0] = _mixed(_drawn(draws, len(copied), documents * EXACT))
    records["fingerprint"][copied, 1] = 1
    alike = np.flatnonzero((kind >= EXACT) & (kind < EXACT + NEAR))
    pages = _drawn(draws, len(alike), documents * NEAR)
    with partition.signatures.open("wb") as file:
        for start in range(0, len(alike), 1 << 14):
            rows, page = alike[start : start + (1 << 14)], pages[start : start + (1 << 14)]
            signed = _signatures(draws, page)
            keys[:, rows] = band_keys(signed, BANDS, ROWS).T
            for row, one in zip(rows.tolist(), signed, strict=True):
                os.pwrite(file.fileno(), one.tobytes(), 4 * HASHES * row)
    os.truncate(partition.signatures, 4 * HASHES * count)
    keys.tofile(partition.bands)
    return records


def _signatures(draws: np.random.Generator, pages: Array) -> Array:
    """A version of each page."""
    places = pages[:, None].astype(np.uint64) * np.uint64(HASHES) + np.arange(HASHES, dtype=np.uint64)
    signed = (_mixed(places) >> np.uint64(32)).astype(np.uint32)
    changed = draws.random(signed.shape, np.float32) < (draws.integers(0, CHANGED, len(pages)) / HASHES)[:, None]
    signed[changed] = draws.integers(0, 2**32, int(changed.sum()), dtype=np.uint32)
    return signed


def _drawn(draws: np.random.Generator, count: int, of: float) -> Array:
    """Which text or page each of `count` documents is of."""
    most = max(1.0, of * DIFFERENT)
    made: Array = (most * draws.random(count) ** STEEPNESS).astype(np.uint64)
    return made


def _mixed(numbers: Array) -> Array:
    mixed = (numbers + np.uint64(1)) * MIX
    return (mixed ^ (mixed >> np.uint64(31))) * MIX
