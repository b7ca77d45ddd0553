"""Questions of science and common sense in AllenAI's formats: ARC, OpenBookQA, CommonsenseQA, Social IQa, SciQ."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, table_rows
from megalith.evaluation.prompts import LETTERS, choices, labelled_choices, listed
from megalith.evaluation.task import Task


def _spaced(texts: Sequence[str]) -> list[str]:
    return [f" {text}" for text in texts]


def _asked(record: Record) -> Document:
    stem, texts, gold = labelled_choices(record)
    prompt = f"Question: {stem}\nAnswer:"
    return choices(prompt, _spaced(texts), gold, id=str(record["id"]))


def _completed(record: Record) -> Document:
    stem, texts, gold = labelled_choices(record)
    return choices(stem, _spaced(texts), gold, id=str(record["id"]))


def _lettered(record: Record) -> Document:
    stem, texts, gold = labelled_choices(record)
    prompt = listed(f"Question: {stem.strip()}", texts)
    return choices(prompt, _spaced(LETTERS[: len(texts)]), gold, id=str(record["id"]))


def _openbookqa_records(paths: Sequence[Path]) -> Iterator[Record]:
    if ".tsv" not in paths[0].suffixes:
        yield from json_lines(paths[0])
        return
    for row in table_rows(paths[0]):
        options = re.split(r"\s*\(([A-D])\)\s*", row.text("Choices").strip())[1:]
        if options[::2] != list("ABCD"):
            raise InputError(f"four choices (A) to (D) are wanted, not {row['Choices']!r}.", where=row.where)
        values = {
            "id": row["ID"],
            "question": row["Question Stem"],
            "choices": {"label": options[::2], "text": options[1::2]},
            "answerKey": row.text("Answer Key").strip(),
        }
        yield Record(values, row.where, row.number)


def _siqa(record: Record) -> Document:
    prompt = f"Q: {record.text('context')} {record.text('question')}\nA:"
    answers = [record.text(f"answer{letter}") for letter in "ABC"]
    return choices(prompt, _spaced(answers), record.place("label", ("1", "2", "3")), group=record.text("context"))


def _sciq(record: Record) -> Document:
    answers = [record.text(name) for name in ("distractor1", "distractor2", "distractor3", "correct_answer")]
    prompt = f"{record.text('support').lstrip()}\nQuestion: {record.text('question')}\nAnswer:"
    return choices(prompt, _spaced(answers), 3)


def _sciq_closed(record: Record) -> Document:
    answers = [record.text(name) for name in ("distractor1", "distractor2", "distractor3", "correct_answer")]
    return choices(f"Question: {record.text('question')}\nAnswer:", _spaced(answers), 3)


def _arc(part: str) -> Task:
    name = f"ARC-{part}"
    origin = "ai2-public-datasets.s3.amazonaws.com/arc/ARC-V1-Feb2018.zip"
    return Task(
        name=f"arc_{part.lower()}",
        kind="choice",
        about=f"science questions of schools, the {part.lower()} part",
        paper="Clark et al. 2018, arXiv 1803.05457",
        licence="CC BY-SA 4.0",
        prompts={"lm_eval": _asked, "letter": _lettered},
        files=(
            DataFile((f"arc/{name}-Test.jsonl", f"{name}/{name}-Test.jsonl", f"arc/{name}-validation.jsonl"), origin),
        ),
        shot_files=(DataFile((f"arc/{name}-Train.jsonl", f"{name}/{name}-Train.jsonl"), origin),),
    )


_OPENBOOKQA = "ai2-public-datasets.s3.amazonaws.com/open-book-qa/OpenBookQA-V1-Sep2018.zip"
OPENBOOKQA = Task(
    name="openbookqa",
    kind="choice",
    about="elementary science; the stem is completed",
    paper="Mihaylov et al. 2018, arXiv 1809.02789",
    licence="Apache-2.0",
    prompts={"lm_eval": _completed, "question": _asked},
    files=(
        DataFile(("openbookqa/test.tsv", "openbookqa/test.jsonl", "Main/test.tsv", "Main/test.jsonl"), _OPENBOOKQA),
    ),
    shot_files=(DataFile(("openbookqa/train.tsv", "openbookqa/train.jsonl", "Main/train.tsv"), _OPENBOOKQA),),
    records=_openbookqa_records,
)
COMMONSENSE_QA = Task(
    name="commonsense_qa",
    kind="choice",
    about="common sense, five options",
    paper="Talmor et al. 2019, arXiv 1811.00937",
    licence="MIT",
    prompts={"lm_eval": _lettered, "question": _asked},
    files=(
        DataFile(
            ("commonsense_qa/dev_rand_split.jsonl", "commonsense_qa/validation.jsonl"), "www.tau-nlp.org/commonsenseqa"
        ),
    ),
    shot_files=(DataFile(("commonsense_qa/train_rand_split.jsonl",), "www.tau-nlp.org/commonsenseqa"),),
)
SIQA = Task(
    name="siqa",
    kind="choice",
    about="what people feel and do next",
    paper="Sap et al. 2019, arXiv 1904.09728",
    licence="CC BY 4.0",
    prompts={"lm_eval": _siqa},
    files=(DataFile(("siqa/validation.jsonl",), "the data set allenai/social_i_qa (labels in each line)"),),
    shot_files=(DataFile(("siqa/train.jsonl",), "the data set allenai/social_i_qa (labels in each line)"),),
    unconditional="A:",
)
SCIQ = Task(
    name="sciq",
    kind="choice",
    about="science questions after a passage that supports the answer",
    paper="Welbl et al. 2017, arXiv 1707.06209",
    licence="CC BY-NC 3.0",
    prompts={"lm_eval": _sciq, "closed": _sciq_closed},
    files=(DataFile(("sciq/test.jsonl", "sciq/validation.jsonl"), "the data set allenai/sciq"),),
    shot_files=(DataFile(("sciq/train.jsonl",), "the data set allenai/sciq"),),
)
AI2 = (_arc("Easy"), _arc("Challenge"), OPENBOOKQA, COMMONSENSE_QA, SIQA, SCIQ)
