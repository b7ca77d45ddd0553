"""Decisions are the same however the documents are divided among tasks, and in whatever processes these run."""

from pathlib import Path

import numpy as np
import pytest

from megalith.curation import curate, daft_engine
from megalith.curation.corpus import read_units
from megalith.curation.corpus import table as table_module
from megalith.curation.corpus.document_table import Columns, Partition
from megalith.curation.histograms import Histograms
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
    monkeypatch.setattr(daft_engine, "WORTH_BYTES", 1)
    monkeypatch.setattr(daft_engine, "usable_cores", lambda: 2)
    parts = curate(recipe, tmp_path / "parts", [source])
    assert parts.digest == whole.digest


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
