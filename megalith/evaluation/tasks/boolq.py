"""BoolQ: yes-or-no questions that people asked a search engine, each about a passage of Wikipedia."""

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import classes, truth
from megalith.evaluation.task import Task

_ORIGIN = "dl.fbaipublicfiles.com/glue/superglue/data/v2/BoolQ.zip"


def _document(record: Record, question: str, answer: str) -> Document:
    passage = record.text("passage")
    gold = truth(record, "label" if "label" in record else "answer")
    prompt = f"{passage}\n{question}: {record.text('question')}?\n{answer}:"
    return classes(prompt, (" no", " yes"), gold, group=passage.partition(" -- ")[0])


def _lm_eval(record: Record) -> Document:
    return _document(record, "Question", "Answer")


def _gpt3(record: Record) -> Document:
    return _document(record, "question", "answer")


BOOLQ = Task(
    name="boolq",
    kind="choice",
    about="yes or no, by a passage of Wikipedia",
    paper="Clark et al. 2019, arXiv 1905.10044",
    licence="CC BY-SA 3.0",
    prompts={"lm_eval": _lm_eval, "gpt3": _gpt3},
    files=(DataFile(("boolq/val.jsonl", "BoolQ/val.jsonl", "boolq/dev.jsonl"), _ORIGIN),),
    shot_files=(DataFile(("boolq/train.jsonl", "BoolQ/train.jsonl"), _ORIGIN),),
)
