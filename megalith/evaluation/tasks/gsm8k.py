"""GSM8K: word problems of arithmetic, whose worked solution ends in "#### " and the number (strict match)."""

from megalith.errors import InputError
from megalith.evaluation.answers import final_number, plain_number
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task

_ORIGIN = "github.com/openai/grade-school-math, grade_school_math/data"


def _document(record: Record) -> Document:
    solution = record.text("answer")
    number = final_number(solution)
    if not number:
        raise InputError("this solution has no number after ####.", where=record.where)
    return generated(f"Question: {record.text('question')}\nAnswer:", (number,), solved=f" {solution}")


GSM8K = Task(
    name="gsm8k",
    kind="generate",
    about="word problems of arithmetic, with their reasoning",
    paper="Cobbe et al. 2021, arXiv 2110.14168",
    licence="MIT",
    prompts={"lm_eval": _document},
    files=(DataFile(("gsm8k/test.jsonl",), _ORIGIN),),
    shot_files=(DataFile(("gsm8k/train.jsonl",), _ORIGIN),),
    stop=("Question:",),
    generated_tokens=256,
    extract=final_number,
    normalise=plain_number,
)
