"""MMLU: 57 subjects from school to profession. Five examples of the subject's dev set, in their order, as published.

The published form lists four options and scores the letters; `cloze` scores the options' texts, which tells small
models apart. `plain` is the published form without its opening line.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, members
from megalith.evaluation.prompts import LETTERS, choices, listed
from megalith.evaluation.task import Task

_HEADER = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]


def _split(paths: Sequence[Path], split: str) -> Iterator[Record]:
    """The questions of one split, subject by subject; the official files have no header, and letters for answers."""
    number = 0
    for name, text in members(paths[0], f"_{split}.csv"):
        subject = Path(name).name.removesuffix(f"_{split}.csv")
        where = f"{paths[0]}/{name}"
        for line, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if row == _HEADER:
                continue
            if len(row) != len(_HEADER):
                raise InputError(f"this row has {len(row)} cells, and {len(_HEADER)} are wanted.", where=where)
            answer = LETTERS[int(row[5])] if row[5].isdigit() else row[5]
            values = {"question": row[0], "options": row[1:5], "answer": answer, "subject": subject}
            yield Record({**values, "id": f"{subject}-{line}"}, f"{where}, row {line}", number)
            number += 1


def _test(paths: Sequence[Path]) -> Iterator[Record]:
    return _split(paths, "test")


def _dev(paths: Sequence[Path]) -> Iterator[Record]:
    return _split(paths, "dev")


def _document(record: Record, preamble: str, *, cloze: bool = False) -> Document:
    options, question, subject = record.texts("options"), record.text("question").strip(), record.text("subject")
    return choices(
        f"Question: {question}\nAnswer:" if cloze else listed(question, options),
        [f" {option}" for option in (options if cloze else LETTERS[:4])],
        record.place("answer", tuple("ABCD")),
        id=record.text("id"),
        preamble=preamble,
        fields={"subject": subject},
    )


def _published(record: Record) -> Document:
    subject = record.text("subject").replace("_", " ")
    return _document(record, f"The following are multiple choice questions (with answers) about {subject}.\n\n")


def _plain(record: Record) -> Document:
    return _document(record, "")


def _cloze(record: Record) -> Document:
    return _document(record, "", cloze=True)


_FILE = DataFile(
    ("mmlu/csv.tar.gz", "mmlu/data.tar", "mmlu/data", "mmlu"), "people.eecs.berkeley.edu/~hendrycks/data.tar"
)

MMLU = Task(
    name="mmlu",
    kind="choice",
    about="knowledge of 57 subjects, by letter",
    paper="Hendrycks et al. 2020, arXiv 2009.03300",
    licence="MIT",
    prompts={"lm_eval": _published, "plain": _plain, "cloze": _cloze},
    files=(_FILE,),
    shot_files=(_FILE,),
    records=_test,
    shot_records=_dev,
    shots_like="subject",
    first_shots=True,
    by=("subject",),
)
