"""ANLI, rounds 1 to 3: inference, with hypotheses that people wrote until a model failed on them."""

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import classes
from megalith.evaluation.task import Task

_ORIGIN = "dl.fbaipublicfiles.com/anli/anli_v1.0.zip"
_LABELS = ("e", "n", "c")


def _document(record: Record, asked: str, answers: tuple[str, ...]) -> Document:
    premise, hypothesis = record.text("context"), record.text("hypothesis")
    return classes(
        asked.format(premise=premise, hypothesis=hypothesis),
        answers,
        record.place("label", _LABELS),
        id=record.text("uid"),
        group=premise,
        fields={"label": record.text("label")},
    )


def _lm_eval(record: Record) -> Document:
    asked = "{premise}\nQuestion: {hypothesis} True, False, or Neither?\nAnswer:"
    return _document(record, asked, (" True", " Neither", " False"))


def _gpt3(record: Record) -> Document:
    asked = "{premise}\nquestion: {hypothesis} true, false, or neither?\nanswer:"
    return _document(record, asked, (" true", " neither", " false"))


def _round(number: int) -> Task:
    folders = (f"anli/R{number}_{{split}}.jsonl", f"anli_v1.0/R{number}/{{split}}.jsonl")
    test, train = (tuple(name.format(split=split) for name in folders) for split in ("test", "train"))
    return Task(
        name=f"anli_r{number}",
        kind="choice",
        about=f"inference, round {number}: true, false or neither",
        paper="Nie et al. 2020, arXiv 1910.14599",
        licence="CC BY-NC 4.0",
        prompts={"lm_eval": _lm_eval, "gpt3": _gpt3},
        files=(DataFile(test, _ORIGIN),),
        shot_files=(DataFile(train, _ORIGIN),),
        by=("label",),
    )


ANLI = tuple(_round(number) for number in (1, 2, 3))
