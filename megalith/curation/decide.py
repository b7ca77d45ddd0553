"""Decisions on small columns: URLs, language, document rules, duplicates, the split.

Each decision depends on the documents alone. Of duplicates, the copy that `Columns.order` prefers is kept.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from megalith.curation.corpus import languages
from megalith.curation.corpus.document_table import Array, Columns, Partition, halves, names
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.corpus.table import RECORD, Table
from megalith.curation.daft_engine import Told
from megalith.curation.duplicates import answers_of, find_exact, find_near
from megalith.curation.funnel import Funnel
from megalith.curation.histograms import Histograms
from megalith.curation.keyed_draws import draws
from megalith.curation.partition import SIGNAL
from megalith.curation.steps import heuristics
from megalith.curation.steps.language import UNKNOWN
from megalith.curation.steps.prepare import REASONS
from megalith.recipe import CurateConfig, MinHashConfig

NAMED_AT_ONCE = 1 << 16
"""Documents whose ids are spelled out at a time."""


def load(
    columns: Columns, datasets: Sequence[Dataset], config: CurateConfig, funnel: Funnel, histograms: Histograms
) -> dict[str, int]:
    """Fill the columns, a partition at a time, and judge URL, text, language and document rules on the way.

    Returns `read_bytes` of all documents, `html_bytes` of those that were HTML, `refused_bytes` of those that their URL
    left out.
    """
    sums = {"read_bytes": 0, "html_bytes": 0, "refused_bytes": 0}
    for place, partition in enumerate(columns.partitions):
        fill(columns, place, partition)
        if partition.dataset < 0:
            continue
        dataset = datasets[partition.dataset]
        wanted = [name for name in partition.names if name.startswith(SIGNAL)]
        table = partition.read(["refused", "read_bytes", "is_html", "languages", *wanted])
        read_bytes = table["read_bytes"].to_numpy().astype(np.int64)
        is_html = table["is_html"].to_numpy()
        refused = table["refused"]
        by_url = pc.and_(pc.is_valid(refused), pc.invert(pc.is_in(refused, pa.array(REASONS, refused.type))))
        sums["read_bytes"] += int(read_bytes.sum())
        sums["html_bytes"] += int(read_bytes[is_html].sum())
        sums["refused_bytes"] += int(read_bytes[by_url.to_numpy()].sum())
        base = int(columns.bounds[place])
        nothing = pa.scalar(None, refused.type)
        _drop_named(funnel, base, "urls", pc.if_else(by_url, refused, nothing))
        _drop_named(funnel, base, "extract", pc.if_else(by_url, nothing, refused))
        main = languages.main_languages(table["languages"])
        histograms.add("languages", dataset.name, main, columns.reason[columns.span(place)] == 0)
        if dataset.language:
            why = languages.reasons(table["languages"], main, config.languages, config.minimum_language_share)
            _drop_named(funnel, base, "language", why)
        alive = columns.reason[columns.span(place)] == 0
        signals = table.select(wanted).rename_columns([name.removeprefix(SIGNAL) for name in wanted])
        for name in signals.column_names:
            histograms.measure(f"signals.{name}", signals[name].to_numpy()[alive])
        if dataset.heuristics:
            histograms.add("rules of", "languages", _rules_of(main), alive)
            _drop_named(funnel, base, "heuristics", heuristics.reasons(signals, config.heuristics, main.tolist()))
    return sums


def _rules_of(main: Array) -> Array:
    """Whose thresholds each document is judged by: English, its own language's, or those that are of no language."""
    own = np.isin(main.astype(str), sorted(heuristics.held()))
    english = np.isin(main.astype(str), ["en", UNKNOWN])
    return np.where(own, "its language", np.where(english, "English", "no language (stop words not asked)"))


def fill(columns: Columns, place: int, partition: Partition) -> None:
    """Fill the columns of a partition."""
    table = partition.read(["id", "copy", "bytes", "fingerprint"])
    span = columns.span(place)
    columns.identity[span] = halves(table["id"])
    columns.fingerprint[span] = halves(table["fingerprint"])
    columns.copy[span] = table["copy"].to_numpy()
    columns.bytes[span] = table["bytes"].to_numpy()


def drop_exact_duplicates(columns: Columns, funnel: Funnel, table: Table, work: Path, told: Told) -> None:
    """Drop all but one copy of documents with the same fingerprint. What tasks exchange lies under `work`."""
    _save(columns, table)
    _drop_copies(columns, funnel, "exact", "duplicate", table, find_exact(table, work, told))


def drop_near_duplicates(
    columns: Columns, funnel: Funnel, config: MinHashConfig, table: Table, work: Path, told: Told
) -> int:
    """Drop all but one copy of each component of near-duplicates.

    Returns the number of buckets that were too large, and too little alike, to compare every pair in them.
    """
    _save(columns, table)
    answers, cut_short = find_near(table, work, config, told)
    _drop_copies(columns, funnel, "minhash", "near duplicate", table, answers)
    return cut_short


def cap(columns: Columns, funnel: Funnel, datasets: Sequence[Dataset], seed: int) -> None:
    """Drop what a data set has beyond its `most_documents`, each document by its own draw."""
    alive = columns.alive
    for number, dataset in enumerate(datasets):
        rows = alive[columns.dataset[alive] == number]
        if dataset.most_documents is not None and len(rows) > dataset.most_documents:
            kept = columns.drawn(rows, seed, dataset.most_documents)
            funnel.drop("most_documents", "beyond most_documents", np.setdiff1d(rows, kept))


def hold_out(columns: Columns, share: float, seed: int) -> None:
    """Mark the documents that are held out from training: each by its own draw.

    Of two or more documents at least one is held out and at least one is not, whatever the draws.
    """
    rows = columns.alive
    if len(rows) < 2:
        return
    some = (rows[start : start + NAMED_AT_ONCE] for start in range(0, len(rows), NAMED_AT_ONCE))
    drawn = np.concatenate([draws(seed, "held out", names(columns.identity[those])) for those in some])
    chosen = drawn < share
    chosen[_one(columns, rows, drawn == drawn.min())] = True
    chosen[_one(columns, rows, drawn == drawn.max())] = False
    columns.validation[rows[chosen]] = True


def _one(columns: Columns, rows: Array, among: Array) -> int:
    """The place of the smallest id among those marked."""
    places = np.flatnonzero(among)
    return int(min(places.tolist(), key=lambda place: columns.name(int(rows[place]))))


def _save(columns: Columns, table: Table) -> None:
    """Write what copies are found by, and preferred by, for the tasks that do so."""
    for chunk in table.chunks:
        span = slice(chunk.base, chunk.base + chunk.rows)
        records = np.zeros(chunk.rows, RECORD)
        for name in ("copy", "bytes", "quality", "reason", "dataset"):
            records[name] = getattr(columns, name)[span]
        records["high"], records["low"] = columns.identity[span].T
        records["mark_high"], records["mark_low"] = columns.fingerprint[span].T
        table.write(chunk.number, records)


def _drop_copies(columns: Columns, funnel: Funnel, step: str, reason: str, table: Table, answers: Path) -> None:
    """Drop the copies that were found; those of earlier artifacts are not ours to drop."""
    for chunk in table.chunks:
        found = answers_of(answers, table, chunk.number)
        rows = found["row"].astype(np.int64)
        ours = columns.dataset[rows] >= 0
        for earlier, why in ((False, reason), (True, f"{reason} of an earlier artifact")):
            chosen = ours & (found["earlier"] == earlier)
            funnel.drop(step, why, rows[chosen], found["kept"][chosen])


def _drop_named(funnel: Funnel, base: int, step: str, reasons: pa.Array | pa.ChunkedArray) -> None:
    """Drop the rows from `base` on for the reasons that stand there, but those that are dropped already."""
    coded = pc.dictionary_encode(reasons)
    whole = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    alive = funnel.columns.reason[base : base + len(codes)] == 0
    for code, reason in enumerate(whole.dictionary.to_pylist()):
        funnel.drop(step, reason, base + np.flatnonzero(alive & (codes == code)))
