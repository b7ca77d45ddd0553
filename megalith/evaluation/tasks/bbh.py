"""BIG-bench-hard: 27 tasks on which models fell behind people, with three worked examples each.

`bbh` answers directly, `bbh_cot` by a chain of thought; their shots are the published three, in their order. The
opening line of each task comes from the same file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.answers import after_the_answer_is
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, members
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task
from megalith.input_files import parse_json

_FILE = DataFile(("bbh/bbh.tar.gz", "BIG-Bench-Hard", "bbh"), "github.com/suzgunmirac/BIG-Bench-Hard")
_THOUGHT = "Let's think step by step."


def _openings(path: Path) -> dict[str, tuple[str, str]]:
    """Opening line and worked examples of each task; the file has a canary above a dashed line."""
    found = {}
    for name, text in members(path, ".txt"):
        opening, _, examples = text.rpartition("-----\n")[2].strip().partition("\n\nQ: ")
        found[Path(name).stem] = (opening, examples)
    return found


def _questions(paths: Sequence[Path]) -> Iterator[Record]:
    openings = _openings(paths[0])
    number = 0
    for name, text in members(paths[0], ".json"):
        task, where = Path(name).stem, f"{paths[0]}/{name}"
        for place, example in enumerate(parse_json(text, where=where)["examples"]):
            said = {"opening": openings.get(task, ("", ""))[0], "task": task, "id": f"{task}-{place}", "thought": ""}
            yield Record({**example, **said}, f"{where}, example {place + 1}", number)
            number += 1


def _worked(paths: Sequence[Path]) -> Iterator[Record]:
    number = 0
    for task, (_, examples) in sorted(_openings(paths[0]).items()):
        for place, example in enumerate(examples.split("\n\nQ: ")):
            where = f"{paths[0]}/{task}.txt, example {place + 1}"
            question, _, thought = example.partition(f"\nA: {_THOUGHT}")
            answer = after_the_answer_is(thought)
            if not answer:
                raise InputError("this worked example does not end in an answer.", where=where)
            values = {"input": question, "target": answer, "opening": "", "task": task, "id": f"{task}-{place}"}
            yield Record({**values, "thought": thought.rstrip()}, where, number)
            number += 1


def _document(record: Record, ask: str, solved: str) -> Document:
    opening = record.text("opening")
    return generated(
        f"Q: {record.text('input')}\nA:{ask}",
        (record.text("target"),),
        solved=solved,
        id=record.text("id"),
        preamble=f"{opening}\n\n" if opening else "",
        fields={"task": record.text("task")},
    )


def _direct(record: Record) -> Document:
    return _document(record, "", "")


def _thought(record: Record) -> Document:
    return _document(record, f" {_THOUGHT}", record.text("thought"))


BBH, BBH_COT = (
    Task(
        name=name,
        kind="generate",
        about=about,
        paper="Suzgun et al. 2022, arXiv 2210.09261",
        licence="MIT; canary strings: keep it out of training text",
        prompts={"lm_eval": prompt},
        files=(_FILE,),
        shot_files=(_FILE,),
        records=_questions,
        shot_records=_worked,
        shots_like="task",
        first_shots=True,
        by=("task",),
        stop=("\n\n", "\nQ:"),
        generated_tokens=tokens,
        extract=extract,
    )
    for name, about, prompt, tokens, extract in (
        ("bbh", "27 hard tasks of BIG-bench, answered directly", _direct, 32, str.strip),
        ("bbh_cot", "the same by a chain of thought", _thought, 512, after_the_answer_is),
    )
)
