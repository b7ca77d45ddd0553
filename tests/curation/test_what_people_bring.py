"""Whole curations of what people bring: counted, told, capped, dumped, and added to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from megalith.artifacts import Artifact, set_aside
from megalith.curation import curate, partition
from megalith.curation.corpus import read_units
from megalith.errors import InputError
from megalith.recipe import Recipe, load_recipe
from tests.corpus import docstrings

RECIPE = """
name: mine
about: Text of my own, without a model.
curate:
  languages: []
  heuristics: {preset: none}
  validation_share: 0.2
  task_items: {most: 0}
"""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for text in docstrings() if 800 < len(text) < 5000][:40]


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(RECIPE)
    return file


def _recipe(file: Path, *overrides: str) -> Recipe:
    return load_recipe(file, overrides, model=False)[0]


def _lines(path: Path, texts: list[Any], **more: Any) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps({"text": text, **more}) + "\n" for text in texts))
    return path


def _rows(made: Artifact, *splits: str) -> list[dict[str, Any]]:
    files = (
        file for split in splits or ("train", "validation") for file in sorted((made.path / split).glob("*.parquet"))
    )
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_poor_files_are_counted_and_told_and_end_nothing(
    recipe_file: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lines(tmp_path / "in/good.jsonl", texts[:10])
    _lines(tmp_path / "in/nulls.jsonl", [None] * 4)
    (tmp_path / "in/empty.jsonl").touch()
    (tmp_path / "in/README.md").write_text("about")
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "in/other.parquet")
    made = curate(_recipe(recipe_file), tmp_path / "corpus", [tmp_path / "in"])
    read = made.facts["read"]
    assert read["records"] == 16 and read["no_text"] == 4 and read["no_text_column"] == 2 and read["empty_files"] == 1
    assert made.facts["documents_in"] == 10
    (step, *_) = made.facts["steps"]
    assert step["documents_in"] - sum(step["dropped"].values()) == step["documents_out"]
    told = capsys.readouterr().err
    assert "nulls.jsonl: 0 documents of 4 records" in told and "1 × readme" in told and "1 files without" in told


def test_nothing_at_all_is_an_error_that_says_what_there_was(recipe_file: Path, tmp_path: Path) -> None:
    _lines(tmp_path / "in/a.jsonl", ["x"]).write_text('{"story": "x"}\n')
    with pytest.raises(InputError, match=r"no_text 1.*text_field"):
        curate(_recipe(recipe_file), tmp_path / "corpus", [tmp_path / "in"])
    made = curate(_recipe(recipe_file, "curate.text_field=story"), tmp_path / "corpus", [tmp_path / "in"])
    assert made.facts["documents_out"] == 1


def test_ids_and_metadata_come_out_and_json_lines_and_drops_are_written_on_request(
    recipe_file: Path, texts: list[str], tmp_path: Path
) -> None:
    source = _lines(tmp_path / "a.jsonl", [*texts[:10], *texts[:3]], url="http://x.example/", id="d7", license="cc0")
    recipe = _recipe(recipe_file, "curate.jsonl=true", "curate.keep_dropped=true")
    made = curate(recipe, tmp_path / "corpus", [source])
    rows = _rows(made)
    assert {row["source_id"] for row in rows} == {"d7"}
    assert json.loads(rows[0]["metadata"]) == {"license": "cc0"}
    lines: list[dict[str, Any]] = []
    for file in sorted(made.path.glob("jsonl/train/*.jsonl.zst")):
        with zstandard.open(file, "rt", encoding="utf-8") as opened:
            lines += [json.loads(line) for line in opened]
    assert [(line["id"], line["text"], line["metadata"]["license"]) for line in lines] == [
        (row["id"], row["text"], "cc0") for row in _rows(made, "train")
    ]
    dropped = pq.read_table(made.path / "logs/dropped/exact.parquet").to_pylist()
    assert len(dropped) == 3 and {row["id"] for row in dropped} < {row["id"] for row in rows}
    assert all(row["reason"] == "duplicate" and row["kept"] == row["id"] for row in dropped)


def test_a_data_set_is_capped(recipe_file: Path, texts: list[str], tmp_path: Path) -> None:
    one, two = _lines(tmp_path / "1.jsonl", texts[:20]), _lines(tmp_path / "2.jsonl", texts[20:])
    settings = {"one": {"paths": [str(one)], "most_documents": 5}, "two": {"paths": [str(two)]}}
    recipe = load_recipe(recipe_file, {"curate.datasets": settings}, model=False)[0]
    made = curate(recipe, tmp_path / "corpus", [one, two])
    assert [row["source"] for row in _rows(made)].count("one") == 5
    assert {step["name"]: step["dropped"] for step in made.facts["steps"]}["most_documents"] == {
        "beyond most_documents": 15
    }


def test_a_further_file_is_read_without_the_others_and_changes_are_seen(
    recipe_file: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 10_000)
    read: list[str] = []
    as_it_is = partition.read_documents

    def watched(path: str, *others: Any) -> Iterator[Any]:
        read.append(Path(path).name)
        return as_it_is(path, *others)

    monkeypatch.setattr(partition, "read_documents", watched)
    (tmp_path / "blocked").write_text("a.example\n")
    recipe = _recipe(recipe_file, f"curate.urls.blocklists=[{tmp_path / 'blocked'}]")
    for number in range(4):
        _lines(tmp_path / f"in/{number}.jsonl", texts[number * 6 : number * 6 + 6])
    curate(recipe, tmp_path / "corpus", [tmp_path / "in"])
    assert sorted(set(read)) == [f"{number}.jsonl" for number in range(4)]

    def again() -> list[str]:
        read.clear()
        with set_aside(True):
            made = curate(recipe, tmp_path / "corpus", [tmp_path / "in"])
        anew = sorted(set(read))
        fresh = curate(recipe, tmp_path / f"fresh-{len(list(tmp_path.iterdir()))}", [tmp_path / "in"])
        assert [output.sha256 for output in made.manifest.outputs if output.path.startswith(("train", "valid"))] == [
            output.sha256 for output in fresh.manifest.outputs if output.path.startswith(("train", "valid"))
        ]
        return anew

    _lines(tmp_path / "in/10.jsonl", texts[24:30])
    assert again() == ["10.jsonl"]
    (tmp_path / "in/2.jsonl").unlink()
    assert "10.jsonl" not in again()
    _lines(tmp_path / "in/10.jsonl", texts[30:36])
    assert "10.jsonl" in again()
    (tmp_path / "blocked").write_text("b.example\n")
    assert again() == ["0.jsonl", "1.jsonl", "10.jsonl", "3.jsonl"]


def test_one_text_is_a_corpus(recipe_file: Path, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("\n\n".join(texts))
    made = curate(_recipe(recipe_file), tmp_path / "corpus", [tmp_path / "input.txt"])
    assert made.facts["validation_documents"] >= 1 and made.facts["training_documents"] >= 3
