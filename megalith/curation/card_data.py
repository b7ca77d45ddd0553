"""`details.json`: what a dataset card shows beside the funnel. It depends on the documents alone, and on no times."""

from collections.abc import Mapping, Sequence
from typing import Any

from megalith.curation.clusters import clusters
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.funnel import Funnel
from megalith.curation.histograms import Histograms
from megalith.curation.passes import Decisions
from megalith.curation.write import Kept

MOST_TAGS = 50
"""Different values of a tag that are told."""


def details(decisions: Decisions, histograms: Histograms, kept: Kept, lines_cut: Mapping[str, int]) -> dict[str, Any]:
    """The funnel, histograms, languages, domains and the largest clusters of duplicates."""
    return {
        "funnel": [{key: value for key, value in line.items() if key != "seconds"} for line in decisions.funnel.lines],
        "histograms": histograms.told,
        "languages": {
            name.removeprefix("languages."): dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
            for name, counts in sorted(histograms.counts.items())
            if name.startswith("languages.")
        },
        "rules_of": dict(sorted(histograms.counts.get("rules of.languages", {}).items())),
        "domains": [
            {"domain": name, "documents": documents, "bytes": size} for name, documents, size in kept.domains.largest
        ],
        "different_domains": kept.domains.different,
        "clusters": clusters(decisions),
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
    funnel: Funnel, datasets: Sequence[Dataset], licences: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Documents and bytes of text of each dataset, in, and past all filters and duplicates; its licence, if stated."""
    made: dict[str, dict[str, Any]] = {}
    for number, dataset in enumerate(datasets):
        if dataset.corpus:
            documents, size = funnel.came.get(number, [0, 0])
            documents_left, size_left = funnel.left(number)
            figures = {
                "documents_in": documents,
                "documents_out": documents_left,
                "bytes_in": size,
                "bytes_out": size_left,
            }
            before = made.get(dataset.name, {})  # two sources may end in the same name
            made[dataset.name] = {name: value + before.get(name, 0) for name, value in figures.items()} | (
                {"licence": licences[dataset.name]} if dataset.name in licences else {}
            )
    return made
