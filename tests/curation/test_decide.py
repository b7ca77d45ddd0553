import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation import decide
from megalith.curation.card_data import dataset_figures
from megalith.curation.corpus import languages
from megalith.curation.corpus import table as table_module
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.corpus.table import Table
from megalith.curation.passes import Decisions, silent
from megalith.curation.steps import language

Row = tuple[int, int, int, int, float, int]
"""Dataset, id, URL, bytes, quality, fingerprint."""


def _columns(rows: list[Row]) -> Columns:
    columns = Columns([Partition(Path("nowhere"), number, row[0], 1) for number, row in enumerate(rows)])
    for place, (_, name, copy, size, quality, mark) in enumerate(rows):
        columns.identity[place] = (0, name)
        columns.copy[place], columns.bytes[place], columns.quality[place] = copy, size, quality
        columns.fingerprint[place] = (7, mark)
    return columns


def _decisions(columns: Columns, place: Path, seed: int = 1) -> Decisions:
    """These columns before a first decision; documents in one chunk or in several."""
    decisions = Decisions(Table.create(place / "table", columns.partitions), place, seed)
    for chunk in decisions.table.chunks:
        some = decisions.table.new(chunk.number)
        some.records[:] = columns.records[chunk.base : chunk.base + chunk.rows]
        some.reasons = columns.reasons
        decisions.table.save(some)
    for dataset in np.unique(columns.dataset[columns.dataset >= 0]).tolist():
        ours = columns.dataset == dataset
        decisions.funnel.come([[dataset, int(ours.sum()), int(columns.bytes[ours].sum())]])
    decisions.funnel.read({"records": len(columns)}, 0, 0.0)
    return decisions


def _all(decisions: Decisions) -> Columns:
    table = decisions.table
    return Columns(table.partitions(), np.concatenate([table.records(chunk.number) for chunk in table.chunks]))


def _held_out(columns: Columns, place: Path, share: float, seed: int) -> list[bool]:
    decisions = _decisions(columns, place, seed)
    held = decide.hold_out(decisions, share)
    found: list[bool] = _all(decisions).validation.tolist()
    assert sum(found) == held
    return found


def _numbered(count: int, parts: int = 1) -> Columns:
    draws = np.random.default_rng(1)
    columns = Columns([Partition(Path("nowhere"), number, 0, count // parts) for number in range(parts)])
    columns.identity[:] = draws.integers(0, 2**63, (count, 2), dtype=np.uint64)
    return columns


def test_the_copy_of_the_first_dataset_is_kept_then_the_best_the_longest_and_the_smallest_id_and_url(
    tmp_path: Path,
) -> None:
    rows: list[Row] = [
        (1, 1, 1, 900, 0.9, 1),
        (0, 5, 1, 100, 0.1, 1),  # of the first dataset, though the worst
        (1, 2, 1, 100, 0.8, 2),  # better
        (1, 3, 1, 900, 0.7, 2),
        (1, 9, 1, 901, 0.5, 3),  # longer
        (1, 4, 1, 900, 0.5, 3),
        (1, 6, 2, 900, 0.5, 4),
        (1, 6, 1, 900, 0.5, 4),  # of the smaller URL
    ]
    decisions = _decisions(_columns(rows), tmp_path)
    decide.drop_exact_duplicates(decisions, silent)
    columns = _all(decisions)
    assert columns.alive.tolist() == [1, 2, 4, 7]
    assert columns.kept.tolist() == [1, -1, -1, 2, -1, 4, 7, -1]
    assert decisions.funnel.line("exact")["dropped"] == {"duplicate": 4}


def test_the_order_of_rows_makes_no_difference(tmp_path: Path) -> None:
    draws = random.Random(1)
    rows: list[Row] = [
        (draws.randrange(2), draws.randrange(20), number, draws.randrange(3), 0.0, draws.randrange(8))
        for number in range(60)
    ]
    kept = []
    for turn in range(3):
        draws.shuffle(rows)
        decisions = _decisions(_columns(rows), tmp_path / str(turn))
        decide.drop_exact_duplicates(decisions, silent)
        kept.append(sorted(rows[row] for row in _all(decisions).alive))
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == len({row[5] for row in rows})


def test_a_document_that_stands_in_an_earlier_artifact_is_dropped_for_its_sake(tmp_path: Path) -> None:
    given = _columns([(0, 1, 1, 900, 0.9, 1), (EARLIER, 2, 1, 10, 0.0, 1), (0, 3, 1, 10, 0.0, 2)])
    decisions = _decisions(given, tmp_path)
    decide.drop_exact_duplicates(decisions, silent)
    columns = _all(decisions)
    assert columns.alive.tolist() == [2]
    assert columns.kept[0] == 1
    assert decisions.funnel.line("exact")["dropped"] == {"duplicate of an earlier artifact": 1}


def test_rows_are_found_in_the_partitions_that_have_them(tmp_path: Path) -> None:
    sizes = [3, 1, 7, 2, 5]
    draws = np.random.default_rng(1)
    partitions = [Partition(tmp_path, number, 0, size) for number, size in enumerate(sizes)]
    signed = draws.integers(0, 2**32, (sum(sizes), 4), dtype=np.uint32)
    keys = draws.integers(0, 2**64, (2, sum(sizes)), dtype=np.uint64)
    for name in ("signatures", "bands"):
        (tmp_path / name).mkdir()
    bounds = np.cumsum([0, *sizes])
    for partition, first, last in zip(partitions, bounds[:-1], bounds[1:], strict=True):
        signed[first:last].tofile(partition.signatures)
        keys[:, first:last].tofile(partition.bands)
    table = Table.create(tmp_path / "table", partitions)
    assert np.array_equal(table.keys(0, 2), keys)
    for count in (0, 1, 6, sum(sizes)):
        rows = np.sort(draws.choice(sum(sizes), count, replace=False))
        assert np.array_equal(table.signatures_of(rows, 4), signed[rows])
        assert np.array_equal(table.keys_of(rows, 1), keys[1, rows])


def test_a_document_is_held_out_by_the_keyed_hash_of_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decide, "NAMED_AT_ONCE", 7)
    columns = _numbered(40)
    held = _held_out(columns, tmp_path, 0.3, seed=5)
    for row, (high, low) in enumerate(columns.identity.tolist()):
        digest = hashlib.blake2b(f"{high:016x}{low:016x}".encode(), key=b"5 held out", digest_size=8).digest()
        assert held[row] == ((int.from_bytes(digest, "big") >> 11) / 2**53 < 0.3)


@pytest.mark.parametrize("most", [0, 1, 90, 399, 400])
def test_what_is_kept_of_a_data_set_is_the_first_of_a_draw(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "FEWEST_ROWS", 100)
    monkeypatch.setattr(decide, "LEADING_BITS", 3)
    columns = _numbered(400, parts=8)
    columns.copy[:] = np.arange(400)
    decisions = _decisions(columns, tmp_path, seed=9)
    assert len(decisions.table.chunks) > 3
    decide.cap(decisions, [Dataset("web", (), most_documents=most)])
    kept = columns.drawn(np.arange(400), 9, most)["row"]
    assert _all(decisions).alive.tolist() == sorted(kept.tolist())
    assert len(kept) == most
    assert sorted(decisions.drawn(Everything(), 30).tolist()) != list(range(30))
    assert decisions.drawn(Everything(), 30).tolist() == columns.drawn(np.arange(400), 9, 30)["row"].tolist()


@dataclass(frozen=True)
class Everything:
    """All rows of a chunk."""

    def __call__(self, columns: Columns) -> Array:
        return np.arange(len(columns))


def test_sources_of_one_name_are_one_line_of_the_figures(tmp_path: Path) -> None:
    columns = _columns([(0, 1, 1, 10, 0.0, 1), (1, 2, 1, 20, 0.0, 2), (1, 3, 1, 30, 0.0, 3), (2, 4, 1, 40, 0.0, 4)])
    decisions = _decisions(columns, tmp_path)
    decisions.funnel.drop([[1, "exact", "duplicate", 1, 20]])
    datasets = [Dataset("docs.jsonl", ()), Dataset("docs.jsonl", ()), Dataset("web", ())]
    found = dataset_figures(decisions.funnel, datasets, {"web": "ODC-BY"})
    assert found["docs.jsonl"] == {"documents_in": 3, "documents_out": 2, "bytes_in": 60, "bytes_out": 40}
    assert found["web"] == {
        "documents_in": 1, "documents_out": 1, "bytes_in": 40, "bytes_out": 40, "licence": "ODC-BY"
    }  # fmt: skip


def test_the_share_held_out_is_the_share_asked(tmp_path: Path) -> None:
    held = _held_out(_numbered(20_000), tmp_path, 0.05, seed=1)
    # five standard deviations of a binomial
    assert abs(sum(held) - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def test_whether_one_is_held_out_does_not_depend_on_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _held_out(_numbered(2000), tmp_path / "whole", 0.1, seed=1)
    half = _numbered(2000)
    half.reasons.append(("exact", "duplicate"))
    half.reason[1000:] = 1
    monkeypatch.setattr(table_module, "FEWEST_ROWS", 100)
    some = _held_out(half, tmp_path / "half", 0.1, seed=1)
    assert some[:1000] == whole[:1000]
    assert not any(some[1000:])
    assert _held_out(_numbered(2000, parts=20), tmp_path / "parts", 0.1, seed=1) == whole
    assert _held_out(_numbered(2000), tmp_path / "other", 0.1, seed=2) != whole


def test_of_two_documents_one_is_held_out_and_of_one_none(tmp_path: Path) -> None:
    for seed in range(20):
        for share in (0.0001, 0.4999, 0.9999):
            two = _held_out(_numbered(2), tmp_path / f"two {seed} {share}", share, seed)
            one = _held_out(_numbered(1), tmp_path / f"one {seed} {share}", share, seed)
            assert (sum(two), sum(one)) == (1, 0)


def test_languages_are_judged_together_as_one_by_one() -> None:
    texts = [
        "The captain walked along the harbour every morning and counted the ships. " * 3,
        "Der alte Kapitän ging jeden Morgen am Hafen entlang und zählte die Schiffe. " * 3,
        "The captain walked along. Der Kapitän ging am Hafen entlang und zählte. " * 3,
        "xyzzy 12345",
    ]
    found = [language.identify(text) for text in texts]
    shares = [[{"code": code, "share": share} for code, share in one.shares.items()] for one in found]
    kind = pa.list_(pa.struct([("code", pa.string()), ("share", pa.float64())]))
    column = pa.chunked_array([pa.array(shares[:1], kind), pa.array(shares[1:], kind)])
    main = languages.main_languages(column)
    assert main.tolist() == [one.code for one in found]
    for kept, least in ((("en",), 0.5), (("en", "de"), 0.9), (("fr",), 0.5), ((), 0.5)):
        alone = [_reason(one, kept, least) for one in found]
        assert languages.reasons(column, main, kept, least).to_pylist() == alone


def _reason(one: language.Language, kept: list[str], minimum_share: float) -> str | None:
    if not kept or sum(one.shares.get(code, 0.0) for code in kept) >= minimum_share:
        return None
    return "languages mixed" if one.code in kept else f"language {one.code}"
