"""Decisions are the same however the documents are divided among tasks, and in whatever processes these run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megalith.curation import clusters, curate, domains, engine, ranks
from megalith.curation.corpus import read_units
from megalith.curation.corpus import table as table_module
from megalith.curation.corpus.document_table import Columns, Partition
from megalith.curation.histograms import Histograms
from megalith.curation.passes import Decisions
from megalith.recipe import load_recipe
from tests.corpus import docstrings, write_jsonl

SETTINGS = [
    "curate.validation_share=0.2",
    "curate.task_items.most=30",
    "curate.heuristics.minimum_stop_words=1",
    "curate.datasets.docs.most_documents=50",
]


def test_neither_the_size_of_chunks_nor_processes_make_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prose = [text for text in docstrings() if 1500 < len(text) < 30_000][:60]
    copies = [text.replace(" the ", " thee ", 1) for text in prose[::3]] + [text.upper() for text in prose[1::3]]
    source = write_jsonl(tmp_path / "docs.jsonl", prose + copies)
    recipe = load_recipe("quickstart", [*SETTINGS, f"curate.datasets.docs.paths=[{source}]"])[0]
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 20_000)
    whole = curate(recipe, tmp_path / "whole", [source])
    dropped = {line["name"]: line["dropped"] for line in whole.facts["steps"]}
    assert dropped["exact"]["duplicate"] >= 15 and dropped["minhash"]["near duplicate"] >= 10
    assert dropped["most_documents"]
    monkeypatch.setattr(table_module, "FEWEST_ROWS", 10)
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 10)
    monkeypatch.setattr(engine, "WORTH_BYTES", 1)
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    parts = curate(recipe, tmp_path / "parts", [source])
    assert parts.digest == whole.digest


@pytest.fixture
def decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decisions:
    """Some documents in several chunks, of which some are alike in all by which copies are preferred but their row."""
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 100)
    monkeypatch.setattr(table_module, "FEWEST_ROWS", 100)
    draws = np.random.default_rng(3)
    partitions = [Partition(tmp_path, number, number % 3 - 1, 45) for number in range(12)]
    made = Decisions(table_module.Table.create(tmp_path / "table", partitions), tmp_path / "work", 1)
    for chunk in made.table.chunks:
        columns = made.table.new(chunk.number)
        columns.quality[:] = draws.integers(0, 2, len(columns))
        columns.bytes[:] = draws.integers(0, 3, len(columns))
        columns.identity[:] = draws.integers(0, 2, (len(columns), 2))
        columns.copy[:] = draws.integers(0, 3, len(columns))
        columns.drop("extract", "no text", np.flatnonzero(draws.random(len(columns)) < 0.1))
        made.table.save(columns)
    assert len(made.table.chunks) == 6
    return made


def test_ranks_are_places_in_the_order_of_all(
    decisions: Decisions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "RECORDS", 90)
    monkeypatch.setattr(ranks, "SAMPLED", 10)
    table = decisions.table
    records = np.concatenate([table.records(chunk.number) for chunk in table.chunks])
    alive = np.flatnonzero((records["reason"] == 0) & (records["dataset"] >= 0))
    ordered = sorted(
        alive.tolist(),
        key=lambda row: (
            records["dataset"][row], -records["quality"][row], -int(records["bytes"][row]),
            records["identity"][row].tolist(), records["copy"][row], row,
        ),
    )  # fmt: skip
    ranks.rank(decisions, tmp_path / "ranks")
    found = np.concatenate([ranks.ranks_of(tmp_path / "ranks", chunk.number) for chunk in table.chunks])
    assert found[ordered].tolist() == list(range(len(ordered)))


def test_the_largest_domains_are_those_of_all_chunks_together(
    decisions: Decisions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domains, "DOCUMENTS", 100)
    monkeypatch.setattr("megalith.curation.exchange.MOST_RECORDS", 16)
    draws = np.random.default_rng(4)
    whole: dict[str, list[int]] = {}
    readers = domains.readers_of(len(decisions.table))
    for chunk in range(7):
        some = {f"h{number}.org": [int(draws.integers(1, 3)), 10] for number in draws.choice(80, 50, replace=False)}
        if chunk == 6:
            some = {}
        for name, amounts in some.items():
            held = whole.setdefault(name, [0, 0])
            held[0] += amounts[0]
            held[1] += amounts[1]
        domains.deal_domains(tmp_path / "domains", chunk, some, readers)
    found = domains.largest_domains(decisions, tmp_path / "domains", 20)
    expected = sorted((-documents, -size, name) for name, (documents, size) in whole.items())[:20]
    assert readers > 3 and found.different == len(whole)
    assert [(-documents, -size, name) for name, documents, size in found.largest] == expected


def test_a_chunk_comes_back_as_it_was_saved_and_single_rows_as_they_stand_in_it(tmp_path: Path) -> None:
    partitions = [Partition(tmp_path, number, number % 3, 7) for number in range(9)]
    table = table_module.Table.create(tmp_path / "table", partitions)
    columns = table.new(0)
    columns.quality[:] = np.arange(len(columns))
    columns.drop("extract", "no text", np.array([3, 8]))
    columns.drop("exact", "duplicate", np.array([9]), np.array([2]))
    table.next.save(columns)
    found = table.next.open(0)
    assert np.array_equal(found.records, columns.records)
    assert found.reasons == [("", ""), ("extract", "no text"), ("exact", "duplicate")]
    assert [partition.task for partition in found.partitions] == [partition.task for partition in partitions]
    assert found.kept[9] == 2 and found.dataset.tolist() == [n % 3 for n in range(9) for _ in range(7)]
    for rows in ([3, 4, 5], [0, 40, 62]):
        assert np.array_equal(table.next.take(np.array(rows)), columns.records[rows])


def test_what_a_step_drops_is_counted_by_data_set() -> None:
    columns = Columns([Partition(Path("nowhere"), 0, 4, 5), Partition(Path("nowhere"), 1, 2, 5)])
    columns.bytes[:] = np.arange(10)
    columns.drop("exact", "duplicate", np.array([0, 4, 5, 9]))
    columns.drop("exact", "duplicate", np.array([6]))
    assert columns.dropped == {(4, "exact", "duplicate"): [2, 4], (2, "exact", "duplicate"): [3, 20]}


def test_histograms_of_parts_add_up_to_that_of_all() -> None:
    draws = np.random.default_rng(1)
    values, labels = draws.random(300) * 3, draws.choice(["b", "a", "c"], 300)
    whole, parts = Histograms(), Histograms()
    for start in range(0, 300, 100):
        one = Histograms()
        for held in (whole, one):
            held.measure("sizes", values[start : start + 100])
            held.measure("shares", values[start : start + 100] / 3)
            held.add("kinds", "all", labels[start : start + 100], values[start : start + 100] > 1)
        parts.merge(one.as_json)
    assert parts.told == whole.told
    assert list(parts.counts["kinds.all"].items()) == list(whole.counts["kinds.all"].items())


@dataclass(frozen=True)
class LoseTo:
    """Drops each row of a step for the one beside it."""

    step: str
    pairs: tuple[tuple[int, int], ...]

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        for row, kept in self.pairs:
            if columns.base <= row < columns.base + len(columns):
                columns.drop(self.step, "copy", np.array([row - columns.base]), np.array([kept]))
        return {}


def test_a_group_is_that_of_the_copy_that_stands_however_often_copies_were_lost_themselves(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy may be lost as an equal, as a near one, and for its meaning; a chain leads over several chunks."""
    monkeypatch.setattr(clusters, "LOST", 90)
    monkeypatch.setattr(table_module.Table, "shown", lambda self, rows, _: {row: {"url": str(row)} for row in rows})
    records = np.concatenate([decisions.table.records(chunk.number) for chunk in decisions.table.chunks])
    alive = np.flatnonzero((records["reason"] == 0) & (records["dataset"] >= 0)).tolist()
    a, b, c, d, e, x, y = alive[::40][:5] + alive[1:3]
    decisions.change(LoseTo("exact", ((d, c), (x, y))))
    decisions.change(LoseTo("minhash", ((c, b),)))
    decisions.change(LoseTo("semantic", ((b, a), (e, a))))
    found = clusters.clusters(decisions)
    assert [(one["documents"], one["kept"]["url"]) for one in found] == [(5, str(a)), (2, str(y))]
    assert {one["url"] for one in found[0]["dropped"]} == {str(row) for row in (b, c, d, e)}
