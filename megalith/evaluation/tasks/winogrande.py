"""WinoGrande: to which of two names a gap refers, by partial scoring (Trinh and Le 2018, as GPT-3).

Each name is put into the gap, and the rest of the sentence is scored after it: the contexts differ, the continuations
do not.
"""

from megalith.errors import InputError
from megalith.evaluation.document import Choice, Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.task import Task

_ORIGIN = "storage.googleapis.com/ai2-mosaic/public/winogrande/winogrande_1.1.zip"


def _document(record: Record) -> Document:
    before, gap, after = record.text("sentence").partition("_")
    if not gap:
        raise InputError("this sentence has no gap `_`.", where=record.where)
    options = (record.text("option1"), record.text("option2"))
    rest = f" {after.strip()}"
    gold = record.place("answer", ("1", "2"))
    return Document(
        id=str(record["qID"]) if "qID" in record else "",
        prompt=before,
        choices=tuple(Choice(before + option, rest) for option in options),
        gold=gold,
        solved=before + options[gold] + rest,
        solved_as=tuple(before + option + rest for option in options),
        stem=record.text("sentence"),
        options=options,
    )


WINOGRANDE = Task(
    name="winogrande",
    kind="choice",
    about="the name that a gap stands for",
    paper="Sakaguchi et al. 2019, arXiv 1907.10641",
    licence="CC BY",
    prompts={"lm_eval": _document},
    files=(DataFile(("winogrande/dev.jsonl", "winogrande_1.1/dev.jsonl"), _ORIGIN),),
    shot_files=(DataFile(("winogrande/train_xl.jsonl", "winogrande_1.1/train_xl.jsonl"), _ORIGIN),),
)
