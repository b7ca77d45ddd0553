"""`details.json`: what a dataset card shows beside the funnel. It depends on the documents alone, and on no times."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Array, Columns
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.funnel import Funnel
from megalith.curation.histograms import Histograms
from megalith.curation.write import Kept

CLUSTERS, CLUSTER_MEMBERS = 20, 50
DOMAINS = 200
MOST_TAGS = 50
"""Different values of a tag that are told."""


def details(
    columns: Columns, funnel: Funnel, histograms: Histograms, kept: Kept, lines_cut: Mapping[str, int]
) -> dict[str, Any]:
    """The funnel, histograms, languages, domains and the largest clusters of duplicates."""
    return {
        "funnel": [{key: value for key, value in line.items() if key != "seconds"} for line in funnel.lines],
        "histograms": histograms.told,
        "languages": {
            name.removeprefix("languages."): dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
            for name, counts in sorted(histograms.counts.items())
            if name.startswith("languages.")
        },
        "rules_of": dict(sorted(histograms.counts.get("rules of.languages", {}).items())),
        "domains": [
            {"domain": name, "documents": documents, "bytes": size}
            for name, (documents, size) in sorted(
                kept.domains.items(), key=lambda pair: (-pair[1][0], -pair[1][1], pair[0])
            )[:DOMAINS]
        ],
        "different_domains": len(kept.domains),
        "clusters": _clusters(columns, funnel),
        "decontamination": kept.decontamination,
        "repeats": dict(sorted(kept.repeats.items())),
        "lines_cut": dict(lines_cut),
        "tags": {
            name.removeprefix("tags."): dict(counts.most_common(MOST_TAGS))
            for name, counts in sorted(histograms.counts.items())
            if name.startswith("tags.")
        },
        "private": dict(sorted(kept.private.items())),
    }


def dataset_figures(
    columns: Columns, datasets: Sequence[Dataset], licences: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Documents and bytes of text of each dataset, in, and past all filters and duplicates; its licence, if stated."""
    made: dict[str, dict[str, Any]] = {}
    for number, dataset in enumerate(datasets):
        if dataset.corpus:
            ours = columns.dataset == number
            left = ours & (columns.reason == 0)
            figures = {
                "documents_in": int(ours.sum()),
                "documents_out": int(left.sum()),
                "bytes_in": int(columns.bytes[ours].sum(dtype=np.int64)),
                "bytes_out": int(columns.bytes[left].sum(dtype=np.int64)),
            }
            before = made.get(dataset.name, {})  # two sources may end in the same name
            made[dataset.name] = {name: value + before.get(name, 0) for name, value in figures.items()} | (
                {"licence": licences[dataset.name]} if dataset.name in licences else {}
            )
    return made


def _clusters(columns: Columns, funnel: Funnel) -> list[dict[str, Any]]:
    """The largest groups of which one copy was kept: how many they were, and some of them by id."""
    lost = np.flatnonzero((columns.kept >= 0) & (columns.dataset >= 0))
    roots: Array = columns.kept[lost].astype(np.int64)
    while (further := columns.kept[roots] >= 0).any():  # an exact copy of what was then a near-duplicate
        roots[further] = columns.kept[roots[further]]
    found, places = np.unique(roots, return_inverse=True)
    counts: Array = np.bincount(places)
    high, low = columns.identity[found].T
    largest = np.lexsort((low, high, -counts))[:CLUSTERS].tolist()
    members = {int(found[at]): columns.drawn(lost[places == at], funnel.seed, CLUSTER_MEMBERS) for at in largest}
    rows = [row for some in members.values() for row in some.tolist()]
    urls = columns.take([*rows, *members], ["url"])
    return [
        {
            "documents": 1 + int(counts[at]),
            "kept": {"id": columns.name(root), "url": urls[root]["url"]},
            "dropped": [
                {"id": columns.name(row), "url": urls[row]["url"], "reason": funnel.reasons[columns.reason[row]][1]}
                for row in some.tolist()
            ],
        }
        for at, (root, some) in zip(largest, members.items(), strict=True)
    ]
