"""The card as Markdown, for repositories and hubs: tables and figures; texts to read are on the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from megalith.report import card_views as cards
from megalith.report.card_metadata import front_matter
from megalith.report.formats import data, fixed, percent, visible, whole, words
from megalith.report.views import kept_share, pieces_note

Facts = Mapping[str, Any]
DOMAINS, SAMPLE_CHARACTERS = 20, 160


def markdown(card: Facts) -> str:
    """Return the content of `card.md`."""
    parts = [
        f"{front_matter(card)}\n\n# {_cell(card['name'])}",
        _summary(card),
        *_datasets(card),
        *_funnel(card),
        *_reasons(card),
        *_semantic(card),
    ]
    parts += [
        *_decontamination(card),
        *_private(card),
        *_quality(card),
        *_languages(card),
        *_domains(card),
        *_samples(card),
    ]
    return "\n\n".join([*parts, *_digests(card)]) + "\n"


def _summary(card: Facts) -> str:
    splits = card["splits"]
    return (
        f"{whole(card['documents_out'])} documents, {data(card['bytes_out'])} of text: "
        f"{percent(kept_share(card), 1)} of {whole(card['documents_in'])} documents read. "
        f"{whole(splits['train'])} are for training, {whole(splits['validation'])} are held out. "
        "Samples, clusters of duplicates and histograms are in `card.html` beside this file; every figure is in "
        "`card.json`."
    )


def _datasets(card: Facts) -> list[str]:
    rows = [
        (name, held.get("licence") or "not stated", whole(held.get("documents_in")), whole(held.get("documents_out")),
         data(held.get("bytes_in")), data(held.get("bytes_out")))
        for name, held in card["datasets"].items()
    ]  # fmt: skip
    heads = ("data set", "licence", "documents in", "left", "text in", "left")
    note = "Left: after the filters and duplicates, before held-out text and decontamination."
    return ["## Data sets", _table(heads, rows, 2), note] if rows else []


def _funnel(card: Facts) -> list[str]:
    rows = [
        (words(step["name"]), whole(step["documents_in"]), whole(cards.lost(step)), whole(step["documents_out"]),
         data(step["bytes_in"]), data(step["bytes_out"]))
        for step in card["steps"]
    ]  # fmt: skip
    note = pieces_note(card)
    table = _table(("step", "documents in", "dropped", "out", "bytes in", "out"), rows)
    return ["## Funnel", table, *([note] if note else [])]


def _reasons(card: Facts) -> list[str]:
    rows = [
        (words(step), words(reason), whole(many), data(size))
        for step, held in cards.reasons(card)
        for reason, many, size in held
    ]
    return ["## Why documents were dropped", _table(("step", "reason", "documents", "text"), rows, 2)] if rows else []


def _semantic(card: Facts) -> list[str]:
    held = card.get("semantic")
    if not held:
        return []
    told = (
        f"{whole(held.get('documents'))} documents, embedded by {_cell(held.get('model'))}, were compared within "
        f"{whole(held.get('clusters'))} clusters; the threshold is {held.get('threshold')}."
    )
    rows = [
        (fixed(level.get("threshold"), 2), whole(level.get("documents")), percent(level.get("share"), 2))
        for level in held.get("thresholds") or ()
    ]
    near = [
        (fixed(pair.get("cosine"), 4), *(one.get("text", "")[:SAMPLE_CHARACTERS] for one in pair["documents"]))
        for pair in held.get("pairs") or ()
    ]
    parts = ["## Duplicates by meaning", told, _table(("cosine", "documents dropped", "share"), rows)]
    return [
        *parts,
        *(["The pairs nearest to the threshold:", _table(("cosine", "begins", "begins"), near, 3)] if near else []),
    ]


def _decontamination(card: Facts) -> list[str]:
    held = card["decontamination"]
    if not held:
        return []
    told = (
        f"{whole(held.get('matches'))} matches of evaluation text: {whole(held.get('documents_trimmed'))} documents "
        f"trimmed, {whole(held.get('documents_split'))} split, {whole(held.get('documents_dropped'))} dropped."
    )
    names = ("texts", "ngrams", "frequent_ngrams", "matches", "documents")
    rows = [(task, *(whole(found.get(name)) for name in names)) for task, found in cards.tasks(card)]
    return ["## Decontamination", told, _table(("task", *map(words, names)), rows)]


def _private(card: Facts) -> list[str]:
    rows = [(words(kind), whole(many)) for kind, many in (card["private"] or {}).items()]
    return ["## Private data masked", _table(("kind", "times"), rows)] if rows else []


def _quality(card: Facts) -> list[str]:
    rows = cards.quality(card)
    return ["## Quality classifier", _table(("figure", "value"), rows)] if rows else []


def _languages(card: Facts) -> list[str]:
    rows = [
        (dataset, code, whole(many), percent(share, 2))
        for dataset, held in cards.languages(card)
        for code, many, share in held
    ]
    return ["## Languages, as found", _table(("data set", "language", "documents", "share"), rows, 2)] if rows else []


def _domains(card: Facts) -> list[str]:
    rows = [(one["domain"] or "(none)", whole(one["documents"]), data(one["bytes"])) for one in card["domains"] or ()]
    told = f"{whole(card['different_domains'])} different ones; the most frequent:"
    return ["## Domains", told, _table(("domain", "documents", "text"), rows[:DOMAINS])] if rows else []


def _samples(card: Facts) -> list[str]:
    rows = [
        (words(step), words(reason), sample["text"][:SAMPLE_CHARACTERS])
        for step, reason, held in cards.samples_by_reason(card)
        for sample in held[:1]
    ]
    return ["## What was dropped: one of each reason", _table(("step", "reason", "begins"), rows, 3)] if rows else []


def _digests(card: Facts) -> list[str]:
    rows = [
        ("artifact", card["digest"]),
        *((f"input: {name}", digest) for name, digest in card["inputs"].items()),
        *((output["path"], output["sha256"]) for output in card["outputs"] if not output["path"].startswith("logs/")),
    ]
    return ["## Digests", _table(("what", "SHA-256"), rows, 2)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    rule = [":--" if place < left else "--:" for place in range(len(heads))]
    lines = [map(_cell, heads), rule, *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: Any) -> str:
    """Escape a text so that it cannot break out of a table's cell or become markup."""
    told = " ".join(str(visible(str(text))).split()).replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\|*_[]#`" else sign for sign in told)
