"""How many documents and bytes there are of each domain, over all that is written, and the largest of them.

Domains are as many as a tenth of the documents, so nobody holds them all: each chunk adds up its own and deals them out
by their digests; a reader adds up its share, and says how many there are and which are the largest.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Array
from megalith.curation.engine import Task, spread
from megalith.curation.exchange import deal, dealt, in_windows, reader_of, unsynced
from megalith.curation.passes import Decisions, silent

DOMAIN = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("documents", "<i8"), ("bytes", "<i8"), ("chunk", "<u4"), ("place", "<u4")]
)
"""The digest of a domain's name, what there is of it, and where the name stands."""
DOCUMENTS = 1 << 22
"""Documents whose domains are one reader's, about."""


@dataclass(frozen=True)
class Domains:
    """The largest domains, with their documents and bytes, and how many there are."""

    largest: tuple[tuple[str, int, int], ...]
    different: int


def readers_of(documents: int) -> int:
    """Among how many readers the domains of so many documents are dealt."""
    return 1 + documents // DOCUMENTS


def deal_domains(folder: Path, chunk: int, domains: Mapping[str, list[int]], readers: int) -> None:
    """Write the domains of a chunk, documents and bytes of each."""
    folder.mkdir(parents=True, exist_ok=True)
    made = np.empty(len(domains), DOMAIN)
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in domains)
    made["high"], made["low"] = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    amounts = np.array(list(domains.values()), np.int64).reshape(-1, 2)
    made["documents"], made["bytes"] = amounts.T
    made["chunk"], made["place"] = chunk, np.arange(len(domains))
    with unsynced(_names(folder, chunk)) as path:
        path.write_text(json.dumps(list(domains)))
    deal(folder / f"{chunk:05d}", made, reader_of(made["high"], readers), readers)


def largest_domains(decisions: Decisions, folder: Path, most: int) -> Domains:
    """The domains that were dealt to a folder: those with the most documents, then bytes, then by name."""
    readers = readers_of(len(decisions.table))
    tasks: list[Task] = [{"number": number} for number in range(readers)]
    held: list[list[Any]] = []
    different = 0
    for _, found in spread(AddDomains(str(folder), readers, most), tasks, decisions.weight, silent):
        held = sorted([*held, *found["largest"]])[:most]
        different += found["different"]
    return Domains(tuple((name, -documents, -size) for documents, size, name in held), different)


@dataclass(frozen=True)
class AddDomains:
    """Adds up the domains of a share, and says the largest: minus documents, minus bytes, name."""

    folder: str
    readers: int
    most: int

    def __call__(self, task: Task) -> Mapping[str, Any]:
        folder = Path(self.folder)
        held = np.zeros(0, DOMAIN)
        for some in self._windows(task["number"]):
            held = _added(np.concatenate([held, some]))
        order = np.lexsort((-held["bytes"], -held["documents"]))
        if len(order) > self.most:  # whoever is as large as the last may be before it by name
            last = held[order[self.most - 1]]
            as_large = (held["documents"] == last["documents"]) & (held["bytes"] == last["bytes"])
            order = np.union1d(order[: self.most], np.flatnonzero(as_large))
        chosen = held[order]
        names: dict[int, list[str]] = {
            chunk: json.loads(_names(folder, chunk).read_text()) for chunk in np.unique(chosen["chunk"]).tolist()
        }
        largest = sorted([-one["documents"], -one["bytes"], names[one["chunk"]][one["place"]]] for one in _rows(chosen))
        return {"largest": largest[: self.most], "different": len(held)}

    def _windows(self, number: int) -> Iterator[Array]:
        return in_windows((part for _, part in dealt(Path(self.folder), number, self.readers, DOMAIN)), DOMAIN)


def _added(domains: Array) -> Array:
    """One of each, with the sums."""
    ordered = domains[np.lexsort((domains["low"], domains["high"]))]
    first = np.ones(len(ordered), bool)
    first[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (ordered["low"][1:] != ordered["low"][:-1])
    made = ordered[first]
    if len(made):
        starts = np.flatnonzero(first)
        for name in ("documents", "bytes"):
            made[name] = np.add.reduceat(ordered[name], starts)
    return made


def _rows(domains: Array) -> Iterator[dict[str, int]]:
    for one in domains:
        yield {name: int(one[name]) for name in DOMAIN.names or ()}


def _names(folder: Path, chunk: int) -> Path:
    return folder / f"{chunk:05d}.names.json"
