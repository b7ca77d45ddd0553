"""The dataset card of a `curate` artifact: `card.md`, `card.json` and `card.html` from the files of the stage.

It answers the questions of datasheets (Gebru et al. 2018) that a corpus's figures can answer: the sources and licences
of the text, what was dropped and why, with samples to read, and how benchmarks were kept out. The artifact is not
changed; the card is a pure function of it and of the licences.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from megalith.artifacts import Artifact, Workspace, open_artifact
from megalith.errors import InputError
from megalith.input_files import real_path
from megalith.report import card_views, plots, shapes, views
from megalith.report.card_clusters import clusters_to_look_at
from megalith.report.card_histograms import histogram
from megalith.report.card_markdown import markdown
from megalith.report.pages import environment, style
from megalith.report.shapes import read_facts

Card = dict[str, Any]
MEND = "Run the curate stage again with this version."


def write_card(directory: Path, licences: Mapping[str, str] | None = None, output: Path | None = None) -> Path:
    """Write the card of the curate artifact at `directory` and return the folder, by default `directory`-card.

    `licences` are by data set; what the recipe said of one is told where none is given. Raises InputError where there
    is no whole artifact, a licence is for a data set that it does not have, or `output` lies in the artifact.
    """
    named = directory if directory.name.strip(".") else real_path(directory)
    folder = output or named.with_name(f"{named.name}-card")
    artifact = open_artifact(named, "curate")
    if real_path(folder).is_relative_to(real_path(directory)):
        raise InputError(
            "this folder lies in the artifact, which is never changed.",
            where=str(folder),
            mend="Pass a folder outside of it with --output.",
        )
    card = make_card(artifact, licences or {})
    folder.mkdir(parents=True, exist_ok=True)
    place = Workspace(folder)
    place.write_json("card.json", card)
    for name, text in (("card.md", markdown(card)), ("card.html", render_card(card))):
        with place.file(name) as path:
            path.write_text(text, encoding="utf-8", errors="replace")
    return folder


def make_card(artifact: Artifact, licences: Mapping[str, str]) -> Card:
    """Return the content of `card.json`."""
    manifest, facts = artifact.manifest, artifact.facts
    details = read_facts(artifact.path / "details.json", shapes.DETAILS, mend=MEND)
    samples = read_facts(artifact.path / "samples.json", shapes.SAMPLES, mend=MEND)
    datasets = _by_priority(details.get("datasets") or {}, manifest.settings)
    for name in licences:
        if name not in datasets:
            raise InputError(
                f"this corpus has no data set named {name!r}.",
                where="--licence",
                mend=f"Use one of {', '.join(datasets)}." if datasets else "Remove the option.",
            )
    told = ("documents_in", "documents_out", "bytes_in", "bytes_out", "html_bytes_in", "read", "quality", "task_items")
    copied = (
        "languages",
        "domains",
        "different_domains",
        "histograms",
        "decontamination",
        "private",
        "rules_of",
        "repeats",
        "lines_cut",
        "tags",
        "semantic",
    )
    return {
        "name": _name(real_path(artifact.path)),
        "digest": manifest.digest,
        "key": manifest.key,
        "seed": manifest.seed,
        "started": manifest.started,
        "seconds": manifest.seconds,
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "versions": manifest.versions,
        "settings": manifest.settings,
        "inputs": manifest.inputs,
        "outputs": [output.model_dump() for output in manifest.outputs],
        "splits": {"train": facts.get("training_documents"), "validation": facts.get("validation_documents")},
        "datasets": {
            name: figures | {"licence": licences.get(name, figures.get("licence"))}
            for name, figures in datasets.items()
        },
        "steps": facts.get("steps") or details.get("funnel") or [],
        "samples": samples,
        "clusters": clusters_to_look_at(artifact, details.get("clusters") or []),
        **{name: facts.get(name) for name in told},
        **{name: details.get(name) for name in copied},
    }


def render_card(card: Card) -> str:
    """Render the page: a pure function of the card."""
    limits = card_views.limits(card["settings"].get("curate") or {})
    histograms = [(name, histogram(held, limits.get(name, ()))) for name, held in (card["histograms"] or {}).items()]
    groups = card_views.grouped(histograms)
    settings = yaml.safe_dump(dict(card["settings"]), sort_keys=False, allow_unicode=True, width=100)
    return (
        environment()
        .get_template("card.html")
        .render(
            card=card,
            cards=card_views,
            views=views,
            funnel=plots.funnel(card),
            groups=groups,
            settings=settings,
            style=style(),
        )
    )


def _by_priority(datasets: Mapping[str, Card], settings: Mapping[str, Any]) -> dict[str, Card]:
    """Order data sets by priority, as in the settings: of duplicates, the first one's copy is kept."""
    order = [one[0] for one in settings.get("datasets") or ()]
    return {name: datasets[name] for name in [*order, *datasets] if name in datasets}


def _name(path: Path) -> str:
    """Return the expedition's name if the artifact is in its usual place, else the directory's."""
    return path.parent.name if path.name == "curate" else path.name
