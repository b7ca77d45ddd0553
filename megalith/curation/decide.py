"""Decisions on small columns: URLs, language, document rules, duplicates, the split.

Each decision depends on the documents alone. Of duplicates, the copy that `table.preferred` puts first is kept.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from megalith.curation.corpus import languages
from megalith.curation.corpus.against import Kept, gone
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition, halves, names
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.corpus.table import Table
from megalith.curation.duplicates import answers_of, find_exact, find_near
from megalith.curation.engine import Told
from megalith.curation.histograms import Histograms
from megalith.curation.keyed_draws import draws
from megalith.curation.partition import SIGNAL
from megalith.curation.passes import Decisions
from megalith.curation.steps import heuristics
from megalith.curation.steps.language import UNKNOWN
from megalith.curation.steps.prepare import REASONS
from megalith.recipe import CurateConfig, MinHashConfig

NAMED_AT_ONCE = 1 << 16
"""Documents whose ids are spelled out at a time."""
LEADING_BITS = 16
"""By which draws are counted before those that matter are put in order."""


@dataclass(frozen=True)
class Load:
    """Fills the columns, a partition at a time, and judges URL, text, language and document rules on the way.

    Says `read_bytes` of all documents, `html_bytes` of those that were HTML, `refused_bytes` of those that their URL
    left out, how many `came` of each data set, and the histograms.
    """

    datasets: tuple[Dataset, ...]
    config: CurateConfig
    earlier: tuple[Kept, ...] = ()

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        sums = {"read_bytes": 0, "html_bytes": 0, "refused_bytes": 0}
        histograms = Histograms()
        for place, partition in enumerate(columns.partitions):
            fill(columns, place, partition)
            if partition.dataset == EARLIER:
                span = columns.span(place)
                columns.drop("earlier", "not kept", span.start + gone(columns, span, partition, self.earlier))
            elif partition.dataset >= 0:
                self._judge(columns, place, partition, sums, histograms)
        came = [
            [
                dataset,
                int((columns.dataset == dataset).sum()),
                int(columns.bytes[columns.dataset == dataset].sum(dtype=np.int64)),
            ]
            for dataset in np.unique(columns.dataset).tolist()
            if dataset >= 0
        ]
        return {**sums, "came": came, "histograms": histograms.as_json}

    def _judge(
        self, columns: Columns, place: int, partition: Partition, sums: dict[str, int], histograms: Histograms
    ) -> None:
        config, dataset = self.config, self.datasets[partition.dataset]
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
        _drop_named(columns, base, "urls", pc.if_else(by_url, refused, nothing))
        _drop_named(columns, base, "extract", pc.if_else(by_url, nothing, refused))
        main = languages.main_languages(table["languages"])
        histograms.add("languages", dataset.name, main, columns.reason[columns.span(place)] == 0)
        if dataset.language:
            why = languages.reasons(table["languages"], main, config.languages, config.minimum_language_share)
            _drop_named(columns, base, "language", why)
        alive = columns.reason[columns.span(place)] == 0
        signals = table.select(wanted).rename_columns([name.removeprefix(SIGNAL) for name in wanted])
        for name in signals.column_names:
            histograms.measure(f"signals.{name}", signals[name].to_numpy()[alive])
        if dataset.heuristics:
            histograms.add("rules of", "languages", _rules_of(main), alive)
            _drop_named(columns, base, "heuristics", heuristics.reasons(signals, config.heuristics, main.tolist()))


def fill(columns: Columns, place: int, partition: Partition) -> None:
    """Fill the columns of a partition."""
    table = partition.read(["id", "copy", "bytes", "fingerprint"])
    span = columns.span(place)
    columns.identity[span] = halves(table["id"])
    columns.fingerprint[span] = halves(table["fingerprint"])
    columns.copy[span] = table["copy"].to_numpy()
    columns.bytes[span] = table["bytes"].to_numpy()


def drop_exact_duplicates(decisions: Decisions, told: Told) -> None:
    """Drop all but one copy of documents with the same fingerprint."""
    answers = find_exact(decisions.table, decisions.work / "exact", told)
    decisions.change(DropCopies(decisions.table, str(answers), "exact", "duplicate"))
    shutil.rmtree(decisions.work / "exact")


def drop_near_duplicates(decisions: Decisions, config: MinHashConfig, told: Told) -> int:
    """Drop all but one copy of each component of near-duplicates.

    Returns the number of buckets that were too large, and too little alike, to compare every pair in them.
    """
    answers, cut_short = find_near(decisions.table, decisions.work / "near", config, told)
    decisions.change(DropCopies(decisions.table, str(answers), "minhash", "near duplicate"))
    shutil.rmtree(decisions.work / "near")
    return cut_short


@dataclass(frozen=True)
class DropCopies:
    """Drops the copies that were found; those of earlier artifacts are not ours to drop."""

    table: Table
    answers: str
    step: str
    reason: str

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        found = answers_of(Path(self.answers), self.table, columns.number)
        rows = found["row"].astype(np.int64) - columns.base
        ours = columns.dataset[rows] >= 0
        for earlier, why in ((False, self.reason), (True, f"{self.reason} of an earlier artifact")):
            chosen = ours & (found["earlier"] == earlier)
            columns.drop(self.step, why, rows[chosen], found["kept"][chosen])
        return {}


def cap(decisions: Decisions, datasets: Sequence[Dataset]) -> None:
    """Drop what a data set has beyond its `most_documents`, each document by its own draw."""
    for number, dataset in enumerate(datasets):
        most = dataset.most_documents
        if most is not None and decisions.funnel.left(number)[0] > most:
            last = _last_drawn(decisions, number, most)
            decisions.change(DropBeyond(number, decisions.seed, last))


def _last_drawn(decisions: Decisions, dataset: int, most: int) -> list[int] | None:
    """The draw of the last of the `most` documents that are kept: key, URL's number and row; none where none is.

    Its leading bits are counted first, so that only draws with the same ones have to be put in order.
    """
    if not most:
        return None
    counts = np.zeros(1 << LEADING_BITS, np.int64)

    def add(answer: Mapping[str, Any]) -> None:
        counts[answer["places"]] += np.array(answer["counts"], np.int64)

    decisions.look(CountDraws(dataset, decisions.seed), add)
    ends = np.cumsum(counts)
    leading = int(np.searchsorted(ends, most))
    held: list[list[int]] = []
    decisions.look(ListDraws(dataset, decisions.seed, leading), lambda answer: held.extend(answer["draws"]))
    return sorted(held)[most - 1 - int(ends[leading] - counts[leading])]


@dataclass(frozen=True)
class CountDraws:
    """Counts the draws of a data set's documents by their leading bits."""

    dataset: int
    seed: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        drawn = _all_drawn(columns, self.dataset, self.seed)
        places, counts = np.unique(drawn["key"] >> np.uint64(64 - LEADING_BITS), return_counts=True)
        return {"places": places.tolist(), "counts": counts.tolist()}


@dataclass(frozen=True)
class ListDraws:
    """Lists the draws that have these leading bits."""

    dataset: int
    seed: int
    leading: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        drawn = _all_drawn(columns, self.dataset, self.seed)
        return {"draws": drawn[drawn["key"] >> np.uint64(64 - LEADING_BITS) == self.leading].tolist()}


@dataclass(frozen=True)
class DropBeyond:
    """Drops the documents of a data set whose draws come after the last that is kept."""

    dataset: int
    seed: int
    last: list[int] | None

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        drawn = _all_drawn(columns, self.dataset, self.seed)
        if self.last is not None:
            key, copy, row = self.last
            same = drawn["key"] == np.uint64(key)
            after = (drawn["copy"] > np.uint64(copy)) | ((drawn["copy"] == np.uint64(copy)) & (drawn["row"] > row))
            drawn = drawn[(drawn["key"] > np.uint64(key)) | (same & after)]
        columns.drop("most_documents", "beyond most_documents", np.sort(drawn["row"]) - columns.base)
        return {}


def _all_drawn(columns: Columns, dataset: int, seed: int) -> Array:
    alive = columns.alive
    return columns.drawn(alive[columns.dataset[alive] == dataset], seed, len(columns))


def hold_out(decisions: Decisions, share: float) -> int:
    """Mark the documents that are held out from training: each by its own draw. Returns how many.

    Of two or more documents at least one is held out and at least one is not, whatever the draws.
    """
    ends: list[tuple[float, str, int]] = []
    alive = held = 0

    def take(answer: Mapping[str, Any]) -> None:
        nonlocal alive, held
        alive += answer["alive"]
        held += answer["held"]
        found = [*ends, *((draw, name, row) for draw, name, row in answer["ends"])]
        ends[:] = [min(found), min(found, key=lambda one: (-one[0], one[1]))] if found else []

    decisions.change(HoldOut(share, decisions.seed), take)
    first, last = (ends[0], ends[-1]) if ends else ((0.0, "", 0),) * 2
    for (draw, _, row), wanted in ((first, alive > 1), (last, False)) if alive else ():
        if (draw < share) != wanted:
            _set_held_out(decisions.table, row, wanted)
            held += 1 if wanted else -1
            if row == last[2]:
                break
    return held


def _set_held_out(table: Table, row: int, held_out: bool) -> None:
    columns = table.open(int(table.chunk_of(np.array([row]))[0]))
    columns.validation[row - columns.base] = held_out
    table.save(columns)


@dataclass(frozen=True)
class HoldOut:
    """Holds out the documents whose draw is below a share; says which have the least and the largest draw."""

    share: float
    seed: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        rows = columns.alive
        if not len(rows):
            return {"alive": 0, "held": 0, "ends": []}
        some = (rows[start : start + NAMED_AT_ONCE] for start in range(0, len(rows), NAMED_AT_ONCE))
        drawn = np.concatenate([draws(self.seed, "held out", names(columns.identity[those])) for those in some])
        chosen = drawn < self.share
        columns.validation[rows[chosen]] = True
        ends = []
        for draw in (drawn.min(), drawn.max()):
            name, row = min((columns.name(row), row) for row in rows[drawn == draw].tolist())
            ends.append([float(draw), name, row + columns.base])
        return {"alive": len(rows), "held": int(chosen.sum()), "ends": ends}


def _rules_of(main: Array) -> Array:
    """Whose thresholds each document is judged by: English, its own language's, or those that are of no language."""
    own = np.isin(main.astype(str), sorted(heuristics.held()))
    english = np.isin(main.astype(str), ["en", UNKNOWN])
    return np.where(own, "its language", np.where(english, "English", "no language (stop words not asked)"))


def _drop_named(columns: Columns, base: int, step: str, reasons: pa.Array | pa.ChunkedArray) -> None:
    """Drop the rows from `base` on for the reasons that stand there, but those that are dropped already."""
    coded = pc.dictionary_encode(reasons)
    whole = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    alive = columns.reason[base : base + len(codes)] == 0
    for code, reason in enumerate(whole.dictionary.to_pylist()):
        columns.drop(step, reason, base + np.flatnonzero(alive & (codes == code)))
