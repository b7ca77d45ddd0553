"""RACE-h: English examinations of Chinese high schools; every question of every passage.

Questions of one passage are one cluster. lm-eval scores the last question of each passage alone, after the others with
their answers; here each question stands alone after its passage, so that all 3,498 count. `filled` completes the
sentence where a question has a blank.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_files, json_lines
from megalith.evaluation.prompts import LETTERS, choices, listed
from megalith.evaluation.task import Task


def _questions(paths: Sequence[Path]) -> Iterator[Record]:
    passages = json_files(paths[0]) if paths[0].is_dir() else json_lines(paths[0])
    number = 0
    for passage in passages:
        questions, answers, options = (passage[name] for name in ("questions", "answers", "options"))
        if not len(questions) == len(answers) == len(options):
            raise InputError(
                f"{len(questions)} questions, {len(answers)} answers and {len(options)} lists of options.",
                where=passage.where,
            )
        for place, question in enumerate(questions):
            values = {
                "article": passage["article"],
                "question": question,
                "options": options[place],
                "answer": answers[place],
                "passage": str(passage.number),
                "id": f"{passage.number}-{place}",
            }
            yield Record(values, f"{passage.where}, question {place + 1}", number)
            number += 1


def _document(record: Record, prompt: str, answers: Sequence[str]) -> Document:
    options = record.texts("options")
    return choices(
        prompt,
        answers,
        record.place("answer", tuple(LETTERS[: len(options)])),
        id=record.text("id"),
        group=record.text("passage"),
        stem=f"{record.text('article')}\n\nQuestion: {record.text('question')}",
        options=options,
    )


def _gpt3(record: Record) -> Document:
    prompt = f"Article:\n{record.text('article')}\n\nQ: {record.text('question')}\n\nA:"
    return _document(record, prompt, [f" {option}" for option in record.texts("options")])


def _filled(record: Record) -> Document:
    question = record.text("question")
    blank = question.endswith("  _  .")
    asked = question.removesuffix("  _  .").rstrip() if blank else f"Question: {question}\nAnswer:"
    prompt = f"Article: {record.text('article')}\n\n{asked}"
    return _document(record, prompt, [f" {option}" for option in record.texts("options")])


def _letter(record: Record) -> Document:
    options = record.texts("options")
    prompt = listed(f"Article: {record.text('article')}\n\nQuestion: {record.text('question')}", options)
    return _document(record, prompt, [f" {letter}" for letter in LETTERS[: len(options)]])


RACE_HIGH = Task(
    name="race_high",
    kind="choice",
    about="reading comprehension of the high-school part, every question",
    paper="Lai et al. 2017, arXiv 1704.04683",
    licence="non-commercial research only",
    prompts={"gpt3": _gpt3, "filled": _filled, "letter": _letter},
    files=(DataFile(("race/test_high.jsonl", "RACE/test/high"), "www.cs.cmu.edu/~glai1/data/race"),),
    records=_questions,
    unconditional="A:",
)
