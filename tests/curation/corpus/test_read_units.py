import bz2
import gzip
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from megalith.curation.corpus import read_units
from megalith.curation.corpus.read_units import datasets_of, units_of
from megalith.curation.reading.read import read_documents
from megalith.errors import InputError
from megalith.recipe import CurateConfig


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 1000)


def _lines(path: Path, count: int) -> list[str]:
    texts = [f"{number} " + "é" * (number % 90) for number in range(count)]
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    return texts


def _read(made: list[read_units.Unit]) -> list[list[str]]:
    return [
        [str(one.text) for piece in unit.pieces for one in read_documents(Path(piece.path), Counter(), piece.part)]
        for unit in made
    ]


@pytest.mark.usefixtures("small")
def test_a_long_file_of_lines_is_cut_and_each_line_read_once(tmp_path: Path) -> None:
    texts = _lines(tmp_path / "long.jsonl", 300)
    made = units_of(datasets_of([tmp_path], CurateConfig()))
    read = _read(made)
    assert len(made) > 10 and max(map(len, read)) < 50
    assert [text for of_unit in read for text in of_unit] == texts
    assert [read_units.Unit.of(json.loads(json.dumps(unit.task))) for unit in made] == made


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "pack", "parts"),
    [
        ("long.jsonl.gz", gzip.compress, 8),
        ("long.ndjson.zst", zstandard.compress, 16),
        ("long.jsonl.zst", gzip.compress, 8),  # its content is believed before its name
        ("long.jsonl.gz", bytes, 16),  # packed in name alone
        ("long.jsonl.gz", bz2.compress, 1),  # dear to unpack
        ("long.jsonl", gzip.compress, 1),  # not known to be packed: one piece has all of it
    ],
)
def test_packed_lines_are_cut_by_their_content_and_each_is_read_once(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], parts: int
) -> None:
    texts = [random.Random(number).randbytes(number % 90).hex() for number in range(300)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    half = len(content) // 2
    (tmp_path / name).write_bytes(pack(content[:half]) + pack(content[half:]))  # two members, or frames
    read = _read(units_of(datasets_of([tmp_path], CurateConfig())))
    assert [text for of_unit in read for text in of_unit] == texts
    assert sum(bool(of_unit) for of_unit in read) == pytest.approx(parts, abs=1)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("kept", [1.0, 0.999, 0.7, 0.5, 0.1])
@pytest.mark.parametrize("flipped", [None, 0.4, 0.9])
def test_parts_of_a_damaged_file_give_what_the_whole_gives_and_count_the_damage_once(
    tmp_path: Path, pack: Callable[[bytes], bytes], kept: float, flipped: float | None
) -> None:
    _lines(tmp_path / "a.jsonl", 2000)
    content = (tmp_path / "a.jsonl").read_bytes()
    packed = bytearray(pack(content) + pack(b"not JSON\n" + content))
    if flipped:
        packed[int(flipped * len(packed))] ^= 0x10
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packed[: int(kept * len(packed))])
    counts: Counter[str] = Counter()
    whole = [one.text for one in read_documents(path, counts)]
    for length in (7001, 40_000, 150_000):
        ends = [*range(0, 2 * len(content) + 2 * length, length), read_units.ENDLESS]
        told: Counter[str] = Counter()
        read = [one.text for part in itertools.pairwise(ends) for one in read_documents(path, told, part)]
        assert read == whole
        assert told == counts


@pytest.mark.usefixtures("small")
def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    texts = [f"{number} " + "x" * 50 for number in range(300)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "long.parquet", row_group_size=20, compression="none")
    made = units_of(datasets_of([tmp_path], CurateConfig()))
    assert len(made) > 5
    assert [text for of_unit in _read(made) for text in of_unit] == texts


def test_small_files_go_together(tmp_path: Path) -> None:
    for number in range(50):
        _lines(tmp_path / f"{number:02d}.jsonl", 3)
    (made,) = units_of(datasets_of([tmp_path], CurateConfig()))
    assert [piece.name for piece in made.pieces] == [f"{number:02d}.jsonl" for number in range(50)]


def test_a_source_that_the_recipe_names_takes_its_name_and_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
        _lines(tmp_path / name / "docs.jsonl", 3)
    monkeypatch.setenv("HERE", str(tmp_path))
    config = CurateConfig.model_validate(
        {"datasets": {"books": {"paths": ["$HERE/one", "$HERE/two"], "heuristics": False}}}
    )
    books, other = datasets_of([*map(Path, config.paths), tmp_path / "other", tmp_path / "one"], config)
    assert (books.name, books.heuristics, books.quality) == ("books", False, True)
    assert [shown for _, shown in books.files] == ["docs.jsonl", "two/docs.jsonl"]
    assert (other.name, other.heuristics) == ("other", True)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(InputError, match="NO_SUCH_PLACE"):
        datasets_of([Path("$NO_SUCH_PLACE/corpus")], CurateConfig())
