"""A user's own task: the worked example of the page, and every slip in words with its line."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.errors import InputError
from megalith.evaluation.asking import Asked
from megalith.evaluation.own_task import own_task
from megalith.evaluation.scoring import Scoring, judge
from megalith.evaluation.tasks import TASKS
from megalith.inference import LanguageModel
from tests.conftest import ROOT

YAML = """
data: {data}
prompt: "Question: {{q}}\\nAnswer:"
choices: [" no", " yes"]
answer: label
"""


def write(directory: Path, name: str, content: str) -> Path:
    (directory / name).write_text(content, encoding="utf-8")
    return directory / name


def test_the_example_of_the_page_is_a_task_that_a_model_can_be_asked(tmp_path: Path, lm: LanguageModel) -> None:
    page = (ROOT / "docs/own-tasks.md").read_text(encoding="utf-8")
    for name, kind in (("capitals.csv", "csv"), ("capitals.yaml", "yaml")):
        (content,) = re.findall(rf"`{name}`:\n\n```{kind}\n(.*?)```", page, re.DOTALL)
        write(tmp_path, name, content)
    task = own_task(tmp_path / "capitals.yaml")
    documents = task.read(None)
    assert (task.name, task.kind, len(documents), task.by) == ("capitals", "choice", 4, ("continent",))
    assert documents[0].prompt == "Question: What is the capital of France?\nAnswer:"
    assert [choice.continuation for choice in documents[0].choices] == [" Paris", " Lyon"]
    found = judge(Scoring(lm, 1000), task, [Asked(one, one, (), 0, None) for one in documents])
    assert all(0 <= result["accuracy"] <= 1 and result["bits_per_byte"] > 0 for result in found)


def test_every_task_stands_on_the_page() -> None:
    page = (ROOT / "docs/verbs/evaluate.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z0-9_]+)`", page))
    numbers = ("three", "four", "five")
    between = {f"{digits}_digit_{kind}" for digits in numbers for kind in ("addition", "subtraction")}
    missing = set(TASKS) - told - between - {"six_digit_addition", "two_digit_subtraction"}
    assert not missing
    assert {name for one in TASKS.values() for name in one.prompts} <= told


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("label", ["1", "yes", "B"])
def test_the_right_choice_is_a_place_a_letter_or_a_text_in_any_kind_of_file(
    tmp_path: Path, suffix: str, label: str
) -> None:
    data = tmp_path / f"d.{suffix}"
    if suffix == "jsonl":
        data.write_text(json.dumps({"q": "is it", "label": int(label) if label.isdigit() else label}))
    elif suffix == "parquet":
        pq.write_table(pa.table({"q": ["is it"], "label": [label]}), data)
    else:
        data.write_text("q,label\nis it,".replace(",", "\t" if suffix == "tsv" else ",") + label + "\n")
    (one,) = own_task(write(tmp_path, "own.yaml", YAML.format(data=data.name))).read(None)
    assert (one.prompt, one.gold, one.label) == ("Question: is it\nAnswer:", 1, "yes")


def test_other_kinds_and_a_list_of_choices(tmp_path: Path) -> None:
    line = {"q": "who", "right": ["Ada", "A. L."], "options": ["Bo", "Ada"], "at": 1, "last": " end", "who": "x"}
    write(tmp_path, "d.jsonl", json.dumps(line))
    generated = "data: d.jsonl\nkind: generate\nprompt: '{q}?'\nanswer: right\nmatch: open_domain\n"
    task = own_task(write(tmp_path, "a.yaml", generated))
    (one,) = task.read(None)
    assert one.answers == ("Ada", "A. L.") and task.normalise("The ada!") == task.normalise("Ada")
    listed = "data: d.jsonl\nprompt: '{q}?'\nchoices: '{options}'\nanswer: at\nid: who\ngroup: q\n"
    (one,) = own_task(write(tmp_path, "b.yaml", listed)).read(None)
    assert [choice.continuation for choice in one.choices] == [" Bo", " Ada"]
    assert (one.gold, one.id, one.group, one.label) == (1, "x", "who", "")
    words = "data: d.jsonl\nkind: last_word\nprompt: 'the {q}{{x}}'\nanswer: '{last}'\n"
    (one,) = own_task(write(tmp_path, "c.yaml", words)).read(None)
    assert (one.prompt, one.solved) == ("the who{x}", "the who{x} end")


@pytest.mark.parametrize(
    ("yaml", "data", "message"),
    [
        ("prompt: x\nchoices: [a, b]\n", "", "data: Field required. Set data."),
        (
            "data: d.jsonl\nprompt: x\nchoices: [a, b]\npromt: y\n",
            "",
            "a task file has no key 'promt'. Use data, shots",
        ),
        ("data: d.jsonl\nprompt: x\nchoices: [a]\n", "", "two or more"),
        ("data: d.jsonl\nprompt: x\nkind: generate\nchoices: [a, b]\n", "", "has no choices"),
        ("data: [\n", "", "line 2: this is not YAML"),
        ("data: " + "[" * 5000, "", "nested more than 32 deep"),
        ("- data\n", "", "keys and values"),
        ("data: none.jsonl\nprompt: x\nchoices: [a, b]\n", "", "none.jsonl: this file is missing; .*own.yaml names it"),
        (YAML, "", "own has no questions here"),
        (YAML, '{"label": 1}', "d.jsonl, line 1: this record has no field 'q'"),
        (
            YAML,
            '{"q": "x", "label": 1}\n{"q": "x", "label": 2}',
            "line 2: the label 2 is none of the 2 choices .no, yes",
        ),
        (YAML, '{"q": "x", "label": null}', "line 1: the label None"),
        (YAML, '{"q": null, "label": 1}', "line 1: the field 'q' is empty"),
        (YAML, "no json", "line 1: this is not JSON"),
        (YAML.replace("{{q}}", "{{q}}}}"), '{"q": "x", "label": 1}', "a brace too many"),
        (YAML + "id: q\n", '{"q": "x", "label": 1}\n{"q": "x", "label": 0}', "line 2: two questions have the id 'x'"),
    ],
)
def test_a_slip_is_told_in_words_with_its_place(tmp_path: Path, yaml: str, data: str, message: str) -> None:
    write(tmp_path, "d.jsonl", data)
    with pytest.raises(InputError, match=message):
        own_task(write(tmp_path, "own.yaml", yaml.format(data="d.jsonl") if "{data}" in yaml else yaml)).read(None)


def plain(directory: Path, *lines: object) -> Path:
    return write(directory, "plain.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def test_both_shapes_of_plain_lines_are_read(tmp_path: Path) -> None:
    choice = {"id": "c", "document": "d", "context": "It is", "choices": [" a", " b"], "answer": 1}
    (one,) = own_task(plain(tmp_path, choice)).read(None)
    assert (one.id, one.group, one.prompt, one.gold, one.solved) == ("c", "d", "It is", 1, "It is b")
    first, second = own_task(plain(tmp_path, {"context": "It", "target": " is"}, {"context": "", "target": "x"})).read(
        None
    )
    assert (first.choices[0].continuation, first.id, second.id) == (" is", "1", "2")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no questions"),
        ([{"context": "It"}], "line 1: an item needs"),
        ([{"context": "It", "target": ""}], "may be empty"),
        ([{"context": "It", "choices": [" a"], "answer": 0}], "two or more choices"),
        ([{"context": "It", "choices": [" a", ""], "answer": 0}], "may be empty"),
        ([{"context": "It", "choices": [" a", " b"], "answer": 2}], "the answer 2"),
        ([{"context": "It", "choices": [" a", " b"], "answer": "b"}], "the answer 'b'"),
        (
            [{"context": "It", "target": " a"}, {"context": "It", "choices": [" a", " b"], "answer": 0}],
            "line 2: .*mixed",
        ),
        (
            [{"id": 1, "context": "It", "target": " a"}, {"id": 1, "context": "It", "target": " b"}],
            "line 2: .*the id '1'",
        ),
        (["text"], "object"),
    ],
)
def test_a_plain_line_that_is_no_item_is_refused_with_its_line(
    tmp_path: Path, lines: list[object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        own_task(plain(tmp_path, *lines)).read(None)
