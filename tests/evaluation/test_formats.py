"""Each official format from a sample written by hand: the first question as it is asked, and its right answer."""

import csv
import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.errors import InputError
from megalith.evaluation.formats import json_lines, members, parquet_rows, table_rows
from megalith.evaluation.tasks import TASKS
from tests.evaluation.format_samples import BOOLQ, CASES, RACE, lay


@pytest.mark.parametrize(
    ("name", "prompt", "files", "asked", "answers", "gold"),
    CASES,
    ids=[f"{case[0]}-{case[1]}-{at}" for at, case in enumerate(CASES)],
)
def test_a_question_is_asked_in_the_task_s_words(
    tmp_path: Path, name: str, prompt: str, files: dict[str, Any], asked: str, answers: tuple[str, ...], gold: int
) -> None:
    one = TASKS[name].read(lay(tmp_path, files), prompt)[0]
    assert (one.prompt, one.gold) == (asked, gold)
    assert (one.answers or tuple(choice.continuation for choice in one.choices)) == answers
    assert one.solved.startswith(asked[:10]) and one.solved != asked


def test_winogrande_puts_each_option_before_the_same_rest(tmp_path: Path) -> None:
    row = {"sentence": "Ann told Eve that _ slept.", "option1": "Ann", "option2": "Eve", "answer": "2"}
    (one,) = TASKS["winogrande"].read(lay(tmp_path, {"winogrande/dev.jsonl": row}))
    assert [choice.context for choice in one.choices] == ["Ann told Eve that Ann", "Ann told Eve that Eve"]
    assert one.solved == "Ann told Eve that Eve slept."


def test_a_blank_of_race_is_filled_and_its_questions_are_one_group(tmp_path: Path) -> None:
    first, second = TASKS["race_high"].read(lay(tmp_path, {"race/test_high.jsonl": RACE}), "filled")
    assert second.prompt == "Article: A cat sat.\n\nIt was" and second.solved.endswith("It was a cat")
    assert (first.id, second.id, first.group, second.group) == ("0-0", "0-1", "0", "0")


def test_big_bench_hard_opens_with_its_task_and_shows_worked_examples(tmp_path: Path) -> None:
    worked = "canary\n-----\nAdd.\n\nQ: 1+1\nA: Let's think step by step.\nOne more. So the answer is 2."
    files = {
        "bbh/bbh/adding.json": {"examples": [{"input": "2+2", "target": "4"}]},
        "bbh/cot-prompts/adding.txt": worked,
    }
    directory = lay(tmp_path, files)
    (one,) = TASKS["bbh"].read(directory)
    assert (one.preamble, one.prompt, one.answers) == ("Add.\n\n", "Q: 2+2\nA:", ("4",))
    (shot,), (thought,) = TASKS["bbh"].pool(directory), TASKS["bbh_cot"].pool(directory)
    assert shot.solved == "Q: 1+1\nA: 2"
    assert thought.solved == "Q: 1+1\nA: Let's think step by step.\nOne more. So the answer is 2."
    assert TASKS["bbh_cot"].extract(" Two. So the answer is (A).") == "(A)"


def test_solved_examples_come_from_the_training_file_where_it_is_there(tmp_path: Path) -> None:
    directory = lay(tmp_path, {"boolq/val.jsonl": BOOLQ})
    assert [one.id for one in TASKS["boolq"].pool(directory)] == ["0"]
    lay(tmp_path, {"boolq/train.jsonl": BOOLQ | {"label": False}})
    (shot,) = TASKS["boolq"].pool(directory)
    assert (shot.id, shot.label) == ("shot-0", "no")


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("boolq", {"boolq/val.jsonl": BOOLQ | {"label": "maybe"}}, r"val.jsonl, line 1: .*'maybe', and true or false"),
        (
            "boolq",
            {"boolq/val.jsonl": {"question": "x"}},
            r"line 1: this record has no field 'passage' .its fields: question",
        ),
        ("boolq", {"boolq/val.jsonl": "\n"}, "boolq has no questions here"),
        ("boolq", {"boolq/val.jsonl": "[1]\n"}, "line 1: a JSON object is wanted"),
        (
            "piqa",
            {"piqa/valid.jsonl": {"goal": "x", "sol1": "", "sol2": ""}, "piqa/valid-labels.lst": "0 1"},
            "1 questions have 2 labels",
        ),
        ("winogrande", {"winogrande/dev.jsonl": {"sentence": "no gap"}}, "has no gap"),
        ("openbookqa", {"openbookqa/test.tsv": "ID\tChoices\n1\n"}, "line 2: this row has 1 cells, and the header 2"),
        ("mmlu", {"mmlu/data/test/x_test.csv": "a,b\n"}, "this row has 2 cells, and 6 are wanted"),
        ("race_high", {"race/test_high.jsonl": RACE | {"answers": ["A"]}}, "2 questions, 1 answers"),
        (
            "anli_r1",
            {"anli/R1_test.jsonl": {"uid": "u", "context": "", "hypothesis": "", "label": "x"}},
            "one of 'e', 'n', 'c'",
        ),
        ("gsm8k", {"gsm8k/test.jsonl": {"question": "x", "answer": "5"}}, "no number after ####"),
        ("bbh", {"bbh/bbh.tar.gz": "no archive"}, "this archive cannot be read"),
    ],
)
def test_what_is_not_of_the_format_is_refused_where_it_stands(
    tmp_path: Path, name: str, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TASKS[name].read(lay(tmp_path, files))


def test_files_are_read_plain_or_gzipped_and_archives_as_directories(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"x": 1}\n\n{"x": 2}\n'))
    plain, zipped = (
        [(one["x"], one.number) for one in json_lines(tmp_path / name)] for name in ("a.jsonl", "a.jsonl.gz")
    )
    assert plain == zipped == [(1, 0), (2, 1)]
    assert [one.where[-6:] for one in json_lines(tmp_path / "a.jsonl")] == ["line 1", "line 3"]
    with tarfile.open(tmp_path / "d.tar.gz", "w:gz") as archive:
        for name, text in (("d/b.csv", b"2"), ("d/a.csv", b"1"), ("d/c.txt", b"3")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    assert list(members(tmp_path / "d.tar.gz", ".csv")) == [("d/a.csv", "1"), ("d/b.csv", "2")]
    pq.write_table(pa.table({"q": ["why"], "n": [3]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text('q,n\n"why",3\n')
    assert [
        one.text("q") for read in (parquet_rows(tmp_path / "t.parquet"), table_rows(tmp_path / "t.csv")) for one in read
    ] == ["why", "why"]


def test_a_long_cell_is_read_and_the_limit_of_csv_is_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "x" * (before + 1)
    (tmp_path / "t.csv").write_text(f"q\n{long}\n")
    assert [one.text("q") for one in table_rows(tmp_path / "t.csv")] == [long]
    assert csv.field_size_limit() == before


def test_a_quoted_copy_of_wikitext_is_put_back_and_its_words_are_counted_by_spaces(tmp_path: Path) -> None:
    text = ' \n = Title = \n \n A word , and " two " \'s @-@ end . \n'
    cells = "".join(
        '"' + ("" if line == " " else f"{line}\n".replace('"', '""')) + '"\n' for line in text.split("\n")[:-1]
    )
    for name, content in (("wikitext2", text), ("wikitext103", cells)):
        (one,) = TASKS[name].read(lay(tmp_path, {f"{name}/wiki.test.tokens": content}))
        assert int(one.fields["words"]) == len(text.strip().split(" "))
        assert one.prompt == '= Title =\n\nA word, and "two"\'s-end .'
