"""Counts for the dataset card: how signals, scores and lengths are spread, how many documents and bytes of each kind.

Whatever is added in whatever order gives the same counts.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Array

SHARE_EDGES = np.arange(51) / 50
SIZE_EDGES = np.array([0, *(lead * 10**power for power in range(9) for lead in (1, 2, 5)), 10**9])
"""1, 2, 5, 10, …"""


class Histograms:
    """Histograms by name, and counts by name and label."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._shares: dict[str, Array] = {}
        self._sizes: dict[str, Array] = {}
        self._above: set[str] = set()

    def measure(self, name: str, values: Array) -> None:
        """Add values of zero and more to a histogram."""
        values = values[np.isfinite(values)]
        for kept, edges in ((self._shares, SHARE_EDGES), (self._sizes, SIZE_EDGES)):
            held = kept.setdefault(name, np.zeros(len(edges) - 1, np.int64))
            places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(held) - 1)
            held += np.bincount(places, minlength=len(held))
        if len(values) and values.max() > 1:
            self._above.add(name)

    def add(self, name: str, group: str, labels: Array, chosen: Array) -> None:
        """Count labels of one group."""
        found, counts = np.unique(labels[chosen].astype(str), return_counts=True)
        held = self.counts.setdefault(f"{name}.{group}", Counter())
        held.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it, for `merge`."""
        return {
            "counts": {name: dict(counts) for name, counts in self.counts.items()},
            "shares": {name: held.tolist() for name, held in self._shares.items()},
            "sizes": {name: held.tolist() for name, held in self._sizes.items()},
            "above": sorted(self._above),
        }

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add what another counted, as JSON."""
        for name, counts in other["counts"].items():
            self.counts.setdefault(name, Counter()).update(counts)
        for held, more in ((self._shares, other["shares"]), (self._sizes, other["sizes"])):
            for name, counts in more.items():
                held[name] = held.get(name, 0) + np.array(counts, np.int64)
        self._above.update(other["above"])

    @property
    def told(self) -> dict[str, Any]:
        """For each histogram its edges and counts: from 0 to 1 if no value passed 1, else by 1, 2, 5."""
        return {
            name: {
                "edges": (SIZE_EDGES if name in self._above else SHARE_EDGES).tolist(),
                "counts": (self._sizes if name in self._above else self._shares)[name].tolist(),
            }
            for name in sorted(self._shares)
        }
