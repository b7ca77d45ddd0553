import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from megalith.curation.steps.decontaminate import task_ngrams
from megalith.curation.steps.task_texts import index_table, ngrams_by_task, read_items
from megalith.errors import InputError
from megalith.ngrams.words import ngrams, words
from megalith.recipe import DecontaminateConfig
from megalith.recipe.data import TaskTextConfig

QUIZ = TaskTextConfig(paths=("x",), fields=("question", "options"))


@pytest.mark.parametrize("name", ["quiz.jsonl", "quiz.jsonl.gz", "quiz.json", "quiz.ndjson"])
def test_an_item_is_a_line_with_the_texts_of_its_fields_however_deep(tmp_path: Path, name: str) -> None:
    lines = [{"question": "who?", "options": ["me", {"text": "you"}, 3], "other": "no"}, None, {"question": "why?"}]
    content = "\n".join(json.dumps(line) if line else "" for line in lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    items = read_items("quiz", [tmp_path / name], QUIZ)
    assert items == [("0", ["who?", "me", "you"]), ("1", []), ("2", ["why?"])]  # a blank line keeps its number


def test_lines_of_plain_text_are_items_over_all_files(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text(f"one {number}\ntwo {number}\n")
    items = read_items("lines", [tmp_path / "0.txt", tmp_path / "1.txt"], TaskTextConfig(paths=("x",)))
    assert items == [("0", ["one 0\n"]), ("1", ["two 0\n"]), ("2", ["one 1\n"]), ("3", ["two 1\n"])]


@pytest.mark.parametrize("content", ['{"question": "a"}\n["a list"]\n', '{"question": "a"}\n{"torn', "{}\n3"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "quiz.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"quiz\.jsonl, line 2"):
        read_items("quiz", [tmp_path / "quiz.jsonl"], QUIZ)


def test_a_file_that_is_cut_off_and_fields_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "quiz.jsonl.gz").write_bytes(gzip.compress(b'{"question": "a"}\n' * 99)[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        read_items("quiz", [tmp_path / "quiz.jsonl.gz"], QUIZ)
    (tmp_path / "quiz.jsonl").write_text('{"query": "a", "answers": ["b"]}\n')
    with pytest.raises(InputError, match="question or options among answers, query"):
        read_items("quiz", [tmp_path / "quiz.jsonl"], QUIZ)


def test_the_index_has_a_row_for_each_ngram_of_each_item_with_how_often_it_stood() -> None:
    config = DecontaminateConfig(ngram_words=3, minimum_words=2, frequent=5)
    tasks = {"b": [("0", ["one two three four"]), ("1", ["one two"])], "a": [("7", ["two three four", "x"])]}
    (held,) = ngrams_by_task({"b": tasks["b"][:1]}, config)["b"].values()
    first, second = ngrams(words(pa.array(["one two three four"])).hashes, 3).tolist()
    assert sorted(held.tolist()) == sorted([first, second])
    (pair,) = task_ngrams(["one two"], config)[2].tolist()
    stood = {first: 9, second: 1}
    hashes = sorted(stood)
    table = index_table(
        tasks,
        config,
        pa.array(hashes, pa.uint64()).to_numpy(),
        pa.array([stood[one] for one in hashes]).to_numpy(),
        pa.array([first], pa.uint64()).to_numpy(),
    )
    rows = {(row["task"], row["item"], row["words"], row["hash"], row["times"], row["frequent"])
            for row in table.to_pylist()}  # fmt: skip
    assert rows == {
        ("a", "7", 3, second, 1, False),
        ("b", "0", 3, first, 9, True),
        ("b", "0", 3, second, 1, False),
        ("b", "1", 2, pair, 0, False),
    }
