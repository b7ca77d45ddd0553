"""PIQA: which of two ways reaches a goal of everyday physics."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, read_plain_text
from megalith.evaluation.prompts import choices
from megalith.evaluation.task import Task

_ORIGIN = "yonatanbisk.com/piqa/data"


def _labelled(paths: Sequence[Path]) -> Iterator[Record]:
    labels = read_plain_text(paths[1]).split()
    count = 0
    for record in json_lines(paths[0]):
        count += 1
        if count <= len(labels):
            yield Record({**record.values, "label": labels[record.number]}, record.where, record.number)
    if count != len(labels):
        raise InputError(f"{count} questions have {len(labels)} labels.", where=str(paths[1]))


def _document(record: Record, prompt: str) -> Document:
    goal, answers = record.text("goal"), (f" {record.text('sol1')}", f" {record.text('sol2')}")
    return choices(prompt, answers, record.place("label", ("0", "1")), stem=f"Question: {goal}")


def _lm_eval(record: Record) -> Document:
    return _document(record, f"Question: {record.text('goal')}\nAnswer:")


def _gpt3(record: Record) -> Document:
    return _document(record, record.text("goal"))


PIQA = Task(
    name="piqa",
    kind="choice",
    about="the better of two ways to reach a goal",
    paper="Bisk et al. 2020, arXiv 1911.11641",
    licence="AFL-3.0",
    prompts={"lm_eval": _lm_eval, "gpt3": _gpt3},
    files=(
        DataFile(("piqa/valid.jsonl", "piqa/dev.jsonl"), _ORIGIN),
        DataFile(("piqa/valid-labels.lst", "piqa/dev-labels.lst"), _ORIGIN),
    ),
    shot_files=(DataFile(("piqa/train.jsonl",), _ORIGIN), DataFile(("piqa/train-labels.lst",), _ORIGIN)),
    records=_labelled,
)
