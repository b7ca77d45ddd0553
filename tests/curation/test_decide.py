import hashlib
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation import decide
from megalith.curation.card_data import dataset_figures
from megalith.curation.corpus import languages
from megalith.curation.corpus.document_table import EARLIER, Columns, Partition
from megalith.curation.corpus.read_units import Dataset
from megalith.curation.corpus.table import Table
from megalith.curation.funnel import Funnel
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


def _drop_exact(columns: Columns, funnel: Funnel, place: Path) -> None:
    table = Table.create(place / "table", columns.partitions)
    decide.drop_exact_duplicates(columns, funnel, table, place / "exact", lambda done, total: None)


def _numbered(count: int) -> Columns:
    draws = np.random.default_rng(1)
    columns = Columns([Partition(Path("nowhere"), 0, 0, count)])
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
    columns = _columns(rows)
    funnel = Funnel(columns, 1)
    funnel.read({"records": len(columns)}, 0, 0.0)
    _drop_exact(columns, funnel, tmp_path)
    assert columns.alive.tolist() == [1, 2, 4, 7]
    assert columns.kept.tolist() == [1, -1, -1, 2, -1, 4, 7, -1]
    assert funnel.line("exact")["dropped"] == {"duplicate": 4}


def test_the_order_of_rows_makes_no_difference(tmp_path: Path) -> None:
    draws = random.Random(1)
    rows: list[Row] = [
        (draws.randrange(2), draws.randrange(20), number, draws.randrange(3), 0.0, draws.randrange(8))
        for number in range(60)
    ]
    kept = []
    for turn in range(3):
        draws.shuffle(rows)
        columns = _columns(rows)
        _drop_exact(columns, Funnel(columns, 1), tmp_path / str(turn))
        kept.append(sorted(rows[row] for row in columns.alive))
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == len({row[5] for row in rows})


def test_a_document_that_stands_in_an_earlier_artifact_is_dropped_for_its_sake(tmp_path: Path) -> None:
    columns = _columns([(0, 1, 1, 900, 0.9, 1), (EARLIER, 2, 1, 10, 0.0, 1), (0, 3, 1, 10, 0.0, 2)])
    funnel = Funnel(columns, 1)
    funnel.read({"records": len(columns)}, 0, 0.0)
    _drop_exact(columns, funnel, tmp_path)
    assert columns.alive.tolist() == [2]
    assert columns.kept[0] == 1
    assert funnel.line("exact")["dropped"] == {"duplicate of an earlier artifact": 1}


def test_rows_are_found_in_the_partitions_that_have_them() -> None:
    sizes = [3, 1, 7, 2, 5]
    columns = Columns([Partition(Path("nowhere"), number, 0, size) for number, size in enumerate(sizes)])
    draws = np.random.default_rng(1)
    for count in (0, 1, 6, len(columns)):
        rows = np.sort(draws.choice(len(columns), count, replace=False))
        expected = [(place, row) for place, size in enumerate(sizes) for row in range(size)]
        found = [(place, row) for place, within in columns.by_partition(rows) for row in within.tolist()]
        assert found == [expected[row] for row in rows]


def test_a_document_is_held_out_by_the_keyed_hash_of_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "NAMED_AT_ONCE", 7)
    columns = _numbered(40)
    decide.hold_out(columns, 0.3, seed=5)
    for row, (high, low) in enumerate(columns.identity.tolist()):
        digest = hashlib.blake2b(f"{high:016x}{low:016x}".encode(), key=b"5 held out", digest_size=8).digest()
        assert columns.validation[row] == ((int.from_bytes(digest, "big") >> 11) / 2**53 < 0.3)


def test_sources_of_one_name_are_one_line_of_the_figures() -> None:
    columns = _columns([(0, 1, 1, 10, 0.0, 1), (1, 2, 1, 20, 0.0, 2), (1, 3, 1, 30, 0.0, 3), (2, 4, 1, 40, 0.0, 4)])
    columns.reason[1] = 1
    datasets = [Dataset("docs.jsonl", ()), Dataset("docs.jsonl", ()), Dataset("web", ())]
    found = dataset_figures(columns, datasets, {"web": "ODC-BY"})
    assert found["docs.jsonl"] == {"documents_in": 3, "documents_out": 2, "bytes_in": 60, "bytes_out": 40}
    assert found["web"] == {
        "documents_in": 1, "documents_out": 1, "bytes_in": 40, "bytes_out": 40, "licence": "ODC-BY"
    }  # fmt: skip


def test_the_share_held_out_is_the_share_asked() -> None:
    columns = _numbered(20_000)
    decide.hold_out(columns, 0.05, seed=1)
    # five standard deviations of a binomial
    assert abs(columns.validation.sum() - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def test_whether_one_is_held_out_does_not_depend_on_the_others() -> None:
    whole, half, other = _numbered(2000), _numbered(2000), _numbered(2000)
    half.reason[1000:] = 1
    decide.hold_out(whole, 0.1, seed=1)
    decide.hold_out(half, 0.1, seed=1)
    decide.hold_out(other, 0.1, seed=2)
    assert half.validation[:1000].tolist() == whole.validation[:1000].tolist()
    assert not half.validation[1000:].any()
    assert other.validation.tolist() != whole.validation.tolist()


def test_of_two_documents_one_is_held_out_and_of_one_none() -> None:
    for seed in range(20):
        for share in (0.0001, 0.4999):
            two, one = _numbered(2), _numbered(1)
            decide.hold_out(two, share, seed)
            decide.hold_out(one, share, seed)
            assert (two.validation.sum(), one.validation.sum()) == (1, 0)


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
