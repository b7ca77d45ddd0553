"""Semantic duplicates: the decision on documents of one meaning, by their embeddings (SemDeDup).

Beside the file of embeddings, the deciding process holds some 150 bytes a document and 512 times the centroids; a
worker holds two blocks of embeddings with their cosines.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts import Artifact, whole
from megalith.curation.corpus.document_table import Array, names
from megalith.curation.corpus.table import Table, preferred
from megalith.curation.decide import DropCopies
from megalith.curation.duplicates.answers import answer
from megalith.curation.embeddings import EMBEDDINGS, STEP, Points, Standing
from megalith.curation.engine import Task, Told, spread
from megalith.curation.passes import Decisions
from megalith.curation.samples import SAMPLE_CHARACTERS
from megalith.ngrams.words import MIX
from megalith.recipe import SemanticConfig

REASON = "semantic duplicate"
THRESHOLDS = tuple(round(0.8 + 0.01 * step, 2) for step in range(20))
"""The card shows what each of them drops."""
RANGE = 1 << 16
LINK_TASKS = 64


def drop_semantic_duplicates(
    work: Path,
    decisions: Decisions,
    documents: Standing,
    embeddings: Artifact,
    config: SemanticConfig,
    begin: Callable[[str], Told],
) -> dict[str, Any]:
    """Drop all but one document of each group of the same meaning.

    Returns the clusters, the documents that each threshold would drop, and pairs of documents nearest to the chosen
    one.
    """
    count, earlier = len(documents.rows), documents.records["dataset"] < 0
    for folder in ("assigned", "linked"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    points = Points(str(embeddings.path / EMBEDDINGS), count, embeddings.facts["width"])
    clusters = min(count, max(1, isqrt(count)) if config.clusters == "auto" else config.clusters)
    _train(work, documents.records, points, clusters, decisions.seed, begin("clusters of meaning"))
    ranges = [{"number": number} for number in range(-(-count // RANGE))]
    for _ in spread(AssignRange(str(work), points), ranges, count * clusters, begin("clusters of meaning")):
        pass
    nearest, cosines = (
        np.concatenate([np.load(work / "assigned" / f"{task['number']:05d}-{name}.npy") for task in ranges])
        for name in ("nearest", "cosine")
    )
    members = np.argsort(nearest, kind="stable")
    sizes = np.bincount(nearest, minlength=clusters)
    levels = sorted({*THRESHOLDS, config.threshold})
    with whole(work / "members.npy") as path, path.open("wb") as file:
        np.save(file, members)
    with whole(work / "earlier.npy") as path, path.open("wb") as file:
        np.save(file, earlier)
    ours = int((~earlier).sum())
    roots = np.arange(count)
    dropped, pairs = np.zeros(len(levels), np.int64), []
    linking = LinkClusters(str(work), points, tuple(levels), config.threshold)
    pairs_in_all = int((sizes.astype(np.int64) ** 2).sum())
    for task, said in spread(linking, _groups(sizes), pairs_in_all, begin("pairs of one meaning")):
        those = members[task["bounds"][0] : task["bounds"][-1]]
        roots[those] = np.load(work / "linked" / f"{task['number']:05d}.npy")
        dropped += said["dropped"]
        pairs += said["pairs"]
    _drop(work / "found", decisions, documents, roots, cosines, config)
    return {
        "clusters": clusters,
        "largest_cluster": int(sizes.max()),
        "documents": ours,
        "threshold": config.threshold,
        "thresholds": [
            {"threshold": level, "documents": int(count), "share": count / max(1, ours)}
            for level, count in zip(levels, dropped.tolist(), strict=True)
        ],
        "pairs": _shown(decisions.table, documents, _nearest(pairs, config.threshold), config.threshold),
    }


def _train(work: Path, records: Array, points: Points, clusters: int, seed: int, told: Told) -> None:
    """Write the centroids: of a draw of the documents, by their ids."""
    from megalith.curation.steps.semantic import train
    from megalith.curation.steps.semantic.kmeans import POINTS_PER_CENTROID

    path = work / "centroids.npy"
    if path.is_file():
        return
    keys = (records["identity"][:, 0] ^ np.uint64(seed)) * MIX ^ records["copy"]
    keys = (keys ^ (keys >> np.uint64(33))) * MIX
    drawn = np.argsort(keys, kind="stable")[: clusters * POINTS_PER_CENTROID]
    made = train(points.array[drawn], clusters, told)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, made)


@dataclass(frozen=True)
class AssignRange:
    """Assigns a range of embeddings to their nearest centroids."""

    work: str
    points: Points

    def __call__(self, task: Task) -> Mapping[str, Any]:
        from megalith.curation.steps.semantic import assign

        work, number = Path(self.work), task["number"]
        paths = [work / "assigned" / f"{number:05d}-{name}.npy" for name in ("nearest", "cosine")]
        if not all(path.is_file() for path in paths):
            some = self.points.array[number * RANGE : (number + 1) * RANGE]
            for path, made in zip(paths, assign(some, np.load(work / "centroids.npy")), strict=True):
                with whole(path) as temporary, temporary.open("wb") as file:
                    np.save(file, made)
        return {}


def _groups(sizes: Array) -> list[Task]:
    """Tasks of one cluster after another, of about the same number of pairs: where each cluster begins, and the end."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    share = max(1, int((sizes.astype(np.int64) ** 2).sum()) // LINK_TASKS)
    made: list[Task] = []
    first, held = 0, 0
    for cluster, size in enumerate(sizes.tolist()):
        held += size * size
        if held >= share or cluster == len(sizes) - 1:
            made.append({"number": len(made), "bounds": ends[first : cluster + 2].tolist()})
            first, held = cluster + 1, 0
    return made


@dataclass(frozen=True)
class LinkClusters:
    """Joins near documents of some clusters."""

    work: str
    points: Points
    levels: tuple[float, ...]
    chosen: float

    def __call__(self, task: Task) -> Mapping[str, Any]:
        from megalith.curation.steps.semantic import link

        work = Path(self.work)
        path = work / "linked" / f"{task['number']:05d}.npy"
        mark = path.with_suffix(".json")
        if mark.is_file():
            told: dict[str, Any] = json.loads(mark.read_text())
            return told
        members = np.load(work / "members.npy", mmap_mode="r")
        earlier = np.load(work / "earlier.npy", mmap_mode="r")
        points = self.points.array
        dropped, roots, pairs = np.zeros(len(self.levels), np.int64), [], []
        for first, last in zip(task["bounds"][:-1], task["bounds"][1:], strict=True):
            own = np.array(members[first:last])
            if not len(own):
                continue
            found = link(len(own), functools.partial(_gathered, points, own), np.array(self.levels), self.chosen)
            dropped += [_lost(level, earlier[own]) for level in found.roots]
            roots.append(own[found.roots[self.levels.index(self.chosen)]])
            pairs += [[cosine, *own[[one, other]].tolist()] for cosine, one, other in found.pairs]
        with whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(roots) if roots else np.zeros(0, np.int64))
        told = {"dropped": dropped.tolist(), "pairs": _nearest(pairs, self.chosen)}
        with whole(mark) as temporary:
            temporary.write_text(json.dumps(told))
        return told


def _gathered(points: Array, places: Array, first: int, last: int) -> Array:
    return points[places[first:last]]


def _lost(roots: Array, earlier: Array) -> int:
    """The number of our documents that are dropped if each component keeps one, an earlier artifact's if it has one."""
    with_earlier = np.zeros(len(roots), bool)
    with_earlier[roots[earlier]] = True
    own = roots == np.arange(len(roots))
    return int((~earlier).sum() - (own & ~with_earlier).sum())


def _nearest(pairs: Sequence[Sequence[Any]], threshold: float) -> list[list[Any]]:
    """The pairs [cosine, place, place] nearest to the threshold, on each side of it."""
    from megalith.curation.steps.semantic.components import EXAMPLES

    ordered = sorted((abs(pair[0] - threshold), *pair) for pair in pairs)
    sides = ([pair for pair in ordered if (pair[1] >= threshold) == above][:EXAMPLES] for above in (True, False))
    return [list(pair[1:]) for side in sides for pair in side]


def _drop(
    found: Path, decisions: Decisions, documents: Standing, roots: Array, cosines: Array, config: SemanticConfig
) -> None:
    several = np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1)
    records = documents.records[several]
    *others, dataset = preferred(records)
    if config.keep != "first":
        others.append(cosines[several] if config.keep == "hard" else -cosines[several])
    order = several[np.lexsort((*others, dataset, roots[several]))]
    first = np.ones(len(order), bool)
    first[1:] = roots[order[1:]] != roots[order[:-1]]
    kept = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))][~first]
    lost = order[~first]
    found.mkdir(exist_ok=True)
    rows = documents.rows
    answer(found, 0, decisions.table, rows[lost], rows[kept], documents.records["dataset"][kept] < 0)
    decisions.change(DropCopies(decisions.table, str(found), STEP, REASON))


def _shown(table: Table, documents: Standing, pairs: Sequence[Sequence[Any]], threshold: float) -> list[dict[str, Any]]:
    found = table.shown([int(documents.rows[place]) for _, *both in pairs for place in both], ["url", "text"])

    def document(place: int) -> dict[str, Any]:
        shown = found[int(documents.rows[place])]
        (name,) = names(documents.records["identity"][[place]])
        return {"id": name, "url": shown["url"], "text": shown["text"][:SAMPLE_CHARACTERS]}

    return [
        {
            "cosine": round(cosine, 4),
            "duplicates": cosine >= threshold,
            "documents": [document(one), document(other)],
        }
        for cosine, one, other in pairs
    ]
