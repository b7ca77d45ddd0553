"""Duplicates found by tasks that exchange files are those that are found with everything in memory."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from megalith.curation import exchange
from megalith.curation.corpus import table as table_module
from megalith.curation.corpus.document_table import EARLIER, RECORD, Array, Partition
from megalith.curation.corpus.table import Table
from megalith.curation.duplicates import answers_of, connect, exact, find_exact, find_near, near
from megalith.curation.steps.dedup import band_keys, components
from megalith.curation.steps.dedup.minhash import EMPTY
from megalith.recipe import MinHashConfig

CONFIG = MinHashConfig()
HASHES = CONFIG.bands * CONFIG.rows
SIZES = (700, 1, 900, 300, 1100)
DOCUMENTS = sum(SIZES)


def _signatures() -> Array:
    """Signatures of which many are like others: pairs, chains, one that stands 400 times, and texts without words."""
    draws = np.random.default_rng(5)
    signed = draws.integers(0, 2**32 - 1, (DOCUMENTS, HASHES), dtype=np.uint32)
    order = draws.permutation(DOCUMENTS)
    for copy, source in zip(order[:600], order[600:1200], strict=True):
        signed[copy] = signed[source]
        signed[copy, draws.choice(HASHES, draws.integers(0, 60), replace=False)] = 7
    for before, after in pairwise(order[1200:1401]):  # each is near the one before
        signed[after] = signed[before]
        signed[after, draws.choice(HASHES, 30, replace=False)] = draws.integers(0, 2**31, 30)
    signed[order[1500:1900]] = signed[order[1500]]
    signed[order[2000:2040]] = EMPTY
    return signed


def _records(draws: np.random.Generator) -> Array:
    made = np.zeros(DOCUMENTS, RECORD)
    made["identity"] = draws.integers(0, 2**40, (DOCUMENTS, 2))
    made["copy"] = draws.integers(0, 2**40, DOCUMENTS)
    mark = made["fingerprint"]
    mark[:, 0] = draws.integers(0, 900, DOCUMENTS) << 54
    mark[:, 1] = np.where(draws.random(DOCUMENTS) < 0.1, 1, mark[:, 0])
    mark[:800] = 5  # one that is everywhere
    made["bytes"], made["quality"] = draws.integers(1, 4, DOCUMENTS), draws.integers(0, 2, DOCUMENTS)
    made["reason"] = draws.random(DOCUMENTS) < 0.1
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in many small pieces, so that each path of the large case is taken."""
    monkeypatch.setattr(table_module, "CHUNK_ROWS", 1000)
    monkeypatch.setattr(table_module, "FEWEST_ROWS", 1000)
    monkeypatch.setattr(exact, "RECORDS", 500)
    monkeypatch.setattr(near, "KEYS", 400)
    monkeypatch.setattr(near, "CANDIDATES", 100)
    monkeypatch.setattr(connect, "MOST_EDGES", 50)
    monkeypatch.setattr(exchange, "MOST_RECORDS", 64)


def _table(tmp_path: Path, records: Array, signed: Array) -> Table:
    partitions = []
    start = 0
    for name in ("signatures", "bands"):
        (tmp_path / name).mkdir()
    for number, size in enumerate(SIZES):
        partition = Partition(tmp_path, number, EARLIER if number == 4 else number % 2, size)
        records["dataset"][start : start + size] = partition.dataset
        some = signed[start : start + size]
        some.tofile(partition.signatures)
        band_keys(some, CONFIG.bands, CONFIG.rows).T.tofile(partition.bands)
        partitions.append(partition)
        start += size
    table = Table.create(tmp_path / "table", partitions)
    for chunk in table.chunks:
        columns = table.new(chunk.number)
        columns.records[:] = records[chunk.base : chunk.base + chunk.rows]
        table.save(columns)
    return table


def _expected(records: Array, groups: list[Array]) -> dict[int, tuple[int, bool]]:
    """For each copy the row that is kept, by comparing one by one."""
    found = {}
    for group in groups:
        key = {
            int(row): (
                int(records["dataset"][row]), -float(records["quality"][row]), -int(records["bytes"][row]),
                records["identity"][row].tolist(), int(records["copy"][row]),
            )
            for row in group
        }  # fmt: skip
        kept = min(key, key=lambda row: key[row])
        found |= {row: (kept, bool(records["dataset"][kept] < 0)) for row in key if row != kept}
    return found


def _told(folder: Path, table: Table) -> dict[int, tuple[int, bool]]:
    assert len(table.chunks) == 4
    found: list[Array] = [answers_of(folder, table, chunk.number) for chunk in table.chunks]
    rows = np.concatenate(found)
    assert len(np.unique(rows["row"])) == len(rows)
    return {int(row): (int(kept), bool(earlier)) for row, kept, earlier in rows.tolist()}


def _groups(rows: Array, names: Array) -> Iterator[Array]:
    for name in np.unique(names):
        if (names == name).sum() > 1:
            yield rows[names == name]


@pytest.mark.usefixtures("small")
def test_exact_copies_are_those_that_a_comparison_one_by_one_finds(tmp_path: Path) -> None:
    records = _records(np.random.default_rng(1))
    table = _table(tmp_path, records, np.zeros((DOCUMENTS, HASHES), np.uint32))
    rows = np.flatnonzero(records["reason"] == 0)
    marks = records["fingerprint"][rows, 0].astype(object) * 2**64 + records["fingerprint"][rows, 1]
    expected = _expected(records, list(_groups(rows, marks.astype(str))))
    found = _told(find_exact(table, tmp_path / "work", lambda done, total: None), table)
    assert found == expected
    assert len(found) > 700 and sum(earlier for _, earlier in found.values()) > 100


@pytest.mark.usefixtures("small")
def test_near_copies_are_those_found_with_all_signatures_in_memory(tmp_path: Path) -> None:
    records, signed = _records(np.random.default_rng(2)), _signatures()
    table = _table(tmp_path, records, signed)
    rows = np.flatnonzero(records["reason"] == 0)
    roots = components(signed[rows], CONFIG.bands, CONFIG.rows, CONFIG.minimum_jaccard)
    expected = _expected(records, list(_groups(rows, roots)))
    answers, cut_short = find_near(table, tmp_path / "work", CONFIG, lambda done, total: None)
    assert _told(answers, table) == expected
    assert cut_short == 0
    assert len(expected) > 700
    assert (tmp_path / "work" / "edges-2").is_dir()  # the steps over files were taken


@pytest.mark.usefixtures("small")
def test_candidates_too_many_to_hold_are_read_as_they_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, signed = _records(np.random.default_rng(2)), _signatures()
    table = _table(tmp_path, records, signed)
    one, _ = find_near(table, tmp_path / "one", CONFIG, lambda done, total: None)
    monkeypatch.setattr(near, "HELD_SIGNATURES", 1)
    other, _ = find_near(table, tmp_path / "other", CONFIG, lambda done, total: None)
    assert _told(one, table) == _told(other, table)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(5))
def test_components_of_edges_in_files_are_those_of_edges_in_memory(tmp_path: Path, seed: int) -> None:
    draws = np.random.default_rng(seed)
    made = draws.integers(0, 900, (600, 2), dtype=np.uint64)
    path = np.arange(1000, 1200, dtype=np.uint64)  # a chain: the worst for the number of steps
    draws.shuffle(path)
    hub = np.stack([np.full(300, 2000 + 200 * (seed % 2)), np.arange(2001, 2301)], axis=1).astype(np.uint64)
    pairs = np.concatenate([made, np.stack([path[1:], path[:-1]], axis=1), hub])
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    edges = np.empty(len(pairs), connect.EDGE)
    edges["low"], edges["high"] = pairs.min(axis=1), pairs.max(axis=1)
    expected = connect.joined(edges)
    parents = {int(vertex): int(vertex) for vertex in np.unique(pairs)}
    for _ in range(400):  # labels spread from neighbour to neighbour
        before = dict(parents)
        for one, other in pairs.tolist():
            parents[one] = parents[other] = min(parents[one], parents[other])
        if parents == before:
            break
    assert {high: low for low, high in expected.tolist()} == {v: root for v, root in parents.items() if v != root}
    (tmp_path / "edges").mkdir()
    for writer, some in enumerate(np.array_split(edges, 3)):
        connect.deal_edges(tmp_path / "edges" / f"{writer:05d}", some, 7)
    many = connect.connect(tmp_path, 7, len(edges), 0, lambda done, total: None, lambda count: 5)
    found = np.concatenate([connect.stars(tmp_path, reader, many) for reader in range(many)])
    assert sorted(found.tolist()) == sorted(expected.tolist())
