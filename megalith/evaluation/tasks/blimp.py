"""BLiMP: 67 paradigms of 1,000 pairs of sentences, of which the grammatical one should be likelier.

A sentence is scored from its beginning, so that the prefix of the model's convention matters (`evaluate.prefix`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, members
from megalith.evaluation.prompts import choices
from megalith.evaluation.task import Task
from megalith.input_files import parse_json


def _pairs(paths: Sequence[Path]) -> Iterator[Record]:
    number = 0
    for name, text in members(paths[0], ".jsonl"):
        for line, content in enumerate(text.splitlines(), start=1):
            where = f"{paths[0]}/{name}, line {line}"
            yield Record(parse_json(content, where=where), where, number)
            number += 1


def _document(record: Record) -> Document:
    return choices(
        "",
        (record.text("sentence_good"), record.text("sentence_bad")),
        0,
        id=f"{record.text('UID')}-{record['pairID']}",
        fields={"paradigm": record.text("UID"), "field": record.text("field")},
        stem="Which of these sentences is grammatical?",
    )


BLIMP = Task(
    name="blimp",
    kind="choice",
    about="the grammatical one of two sentences, 67 paradigms",
    paper="Warstadt et al. 2020, arXiv 1912.00582",
    licence="CC BY 4.0",
    prompts={"lm_eval": _document},
    files=(DataFile(("blimp/data.tar.gz", "blimp/data", "blimp"), "github.com/alexwarstadt/blimp"),),
    records=_pairs,
    by=("field", "paradigm"),
)
