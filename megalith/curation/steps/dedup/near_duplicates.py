"""Near-duplicates among more documents than memory holds signatures of.

The keys of one band are in memory at a time, and the signatures of candidates, which are read where they stand.
"""

import os

import numpy as np

from megalith.curation.corpus.document_table import Array, Columns
from megalith.curation.steps.dedup import Components, find_components
from megalith.recipe import MinHashConfig


def near_duplicates(columns: Columns, rows: Array, config: MinHashConfig) -> Components:
    """The components of near-duplicates among the ascending `rows`, by places in these."""

    def keys(band: int) -> Array:
        made = np.empty(len(rows), np.uint64)
        done = 0
        for place, within in columns.by_partition(rows):
            partition = columns.partitions[place]
            found = np.fromfile(partition.bands, np.uint64, partition.rows, offset=8 * partition.rows * band)
            made[done : done + len(within)] = found[within]
            done += len(within)
        return made

    def signatures(places: Array) -> Array:
        wanted = rows[places]
        made = np.empty((len(wanted), config.bands * config.rows), np.uint32)
        size = made.strides[0]
        done = 0
        for place, within in columns.by_partition(wanted):
            with columns.partitions[place].signatures.open("rb") as file:
                for row in within.tolist():
                    made[done] = np.frombuffer(os.pread(file.fileno(), size, size * row), np.uint32)
                    done += 1
        return made

    return find_components(len(rows), config.bands, config.rows, config.minimum_jaccard, keys, signatures)
