"""The files of a source: which of them are read, and how many are passed over and why."""

import json
import os
from pathlib import Path

import pytest

from megalith.curation.corpus.read_units import datasets_of
from megalith.curation.reading.folders import find
from megalith.errors import InputError
from megalith.recipe import CurateConfig

LINE = json.dumps({"text": "some text"}) + "\n"


def put(root: Path, *names: str, content: str = LINE) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def names(source: Path) -> list[str]:
    return [os.path.relpath(file, source if source.is_dir() else source.parent) for file in find(source).files]


def test_what_is_about_the_data_is_passed_over_and_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "b.txt", "readme-of-a-story.txt")
    put(tmp_path, "README.md", "LICENSE.txt", "licence-mit.md", "requirements.txt", "CHANGELOG.md")
    put(tmp_path, "c.csv", "d/e.tsv", "x.pdf", "y.py", ".hidden.txt")
    put(tmp_path, "dataset_info.json", "f.json", content='{"features": 3}')
    (tmp_path / "link").symlink_to(tmp_path / "d")
    found = find(tmp_path)
    assert [file.name for file in found.files] == ["a.jsonl", "b.txt"]
    assert found.passed_over == {
        "readme, licence and the like": 6,
        "table beside other data": 2,
        "JSON about the data": 2,
        "link to a folder": 1,
        ".pdf": 1,
        ".py": 1,
    }
    (dataset,) = datasets_of([tmp_path], CurateConfig())
    assert dataset.passed_over == found.passed_over


@pytest.mark.parametrize("name", ["README.md", "c.csv", "f.json"])
def test_what_is_named_itself_is_read(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, "a.jsonl")
    assert names(tmp_path / name) == [name]
    assert names(tmp_path / name.replace(name[1:3], "*")) == [name]


def test_json_with_texts_is_data_beside_lines_and_alone(tmp_path: Path) -> None:
    put(tmp_path, "part-0000.json", "x.jsonl")
    put(tmp_path, "array.json", content=json.dumps([{"id": 1, "text": "a"}], indent=1))
    put(tmp_path, "one.json", content=json.dumps({"title": "t", "text": "a"}, indent=1))
    put(tmp_path, "about.json", content=json.dumps({"title": "t"}, indent=1))
    assert names(tmp_path) == ["array.json", "one.json", "part-0000.json", "x.jsonl"]


def test_a_folder_of_tables_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "b.tsv", "README.md")
    assert names(tmp_path) == ["a.csv", "b.tsv"]


def test_a_folder_of_nothing_but_a_readme_says_how_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, "README.md")
    with pytest.raises(InputError, match="Name such a file itself"):
        find(tmp_path)


def test_patterns_are_filled_in(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl", "c/4.txt", "a/x[1].jsonl")
    assert [file.name for file in find(tmp_path / "a" / "?.jsonl").files] == ["1.jsonl", "2.jsonl"]
    assert [file.name for file in find(tmp_path / "**" / "[34].*").files] == ["3.jsonl", "4.txt"]
    assert [file.name for file in find(tmp_path / "a" / "x[1].jsonl").files] == ["x[1].jsonl"]
    with pytest.raises(InputError, match="no file fits"):
        find(tmp_path / "*.parquet")


def test_the_current_snapshot_of_hugging_faces_cache_is_read(tmp_path: Path) -> None:
    home = tmp_path / "datasets--user--name"
    for revision, text in (("aaaa", "old"), ("bbbb", "new")):
        put(home, f"blobs/{revision}1", f"blobs/{revision}2", content=json.dumps({"text": text}) + "\n")
        folder = home / "snapshots" / revision / "data"
        folder.mkdir(parents=True)
        (folder / "train-00000.jsonl").symlink_to(home / "blobs" / f"{revision}1")
        (folder.parent / "README.md").symlink_to(home / "blobs" / f"{revision}2")
    put(home, "refs/main", content="bbbb")
    assert names(home) == ["snapshots/bbbb/data/train-00000.jsonl"]
    assert find(home).passed_over == {"earlier snapshot": 2, "readme, licence and the like": 1}
    assert names(home / "snapshots" / "aaaa") == ["data/train-00000.jsonl"]


def test_a_name_with_a_dollar_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a$b.jsonl", "$HOME.jsonl", "in/c$1.txt")
    monkeypatch.chdir(tmp_path)
    for name in ("a$b.jsonl", "$HOME.jsonl", "in"):
        assert len(datasets_of([Path(name)], CurateConfig())[0].files) == 1


def test_data_sets_of_one_last_name_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "one/data/a.jsonl", "two/data/a.jsonl", "three/x.jsonl", "four/x.jsonl", "four/y.jsonl")
    sources = [tmp_path / name for name in ("one/data", "two/data", "three/x.jsonl", "four/x.jsonl", "four/y.jsonl")]
    made = [dataset.name for dataset in datasets_of(sources, CurateConfig())]
    assert made == ["one/data", "two/data", "three/x.jsonl", "four/x.jsonl", "y.jsonl"]
    config = CurateConfig.model_validate({"datasets": {"data": {"paths": [str(tmp_path / "three")]}}})
    made = [dataset.name for dataset in datasets_of([tmp_path / "three", tmp_path / "one/data"], config)]
    assert made == ["data", "one/data"]


def test_all_sources_that_are_missing_are_told_at_once(tmp_path: Path) -> None:
    put(tmp_path, "x.pdf")
    with pytest.raises(InputError) as raised:
        datasets_of([tmp_path / "a.jsonl", tmp_path / "x.pdf", tmp_path / "b.jsonl"], CurateConfig())
    assert all(name in str(raised.value) for name in ("a.jsonl", "x.pdf", "b.jsonl"))


def test_a_data_set_says_how_its_files_are_read(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", "b.jsonl")
    config = CurateConfig.model_validate(
        {
            "text_field": "story",
            "datasets": {
                "one": {"paths": [str(tmp_path / "a.jsonl")], "text_field": "body", "metadata": ["when"]},
                "two": {"paths": [str(tmp_path / "b.jsonl")], "most_documents": 3},
            },
        }
    )
    one, two = datasets_of([Path(path) for path in config.paths], config)
    assert (one.how.text_field, one.how.metadata, two.how.text_field) == ("body", ("when",), "story")
    assert two.most_documents == 3
