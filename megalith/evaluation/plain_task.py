"""Tasks in plain JSON lines: what curation cuts from the corpus, and what a user may write by hand.

A line is {"context", "target"} (the model must predict the target word for word) or {"context", "choices", "answer"}
(the model must prefer the right one of several continuations; `answer` counts from 0). A continuation begins with its
own space. `id` and `document` are optional; solved examples come from other documents.
"""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines
from megalith.evaluation.prompts import choices, last_word
from megalith.evaluation.task import Kind, Task


def plain_task(name: str, path: Path, about: str = "") -> Task:
    """The task in a file. Raises InputError at the first line that is not of the format, or of the other kind."""
    if not path.is_file():
        raise InputError("this task file is missing.", where=str(path))
    first = list(islice(json_lines(path), 1))
    if not first:
        raise InputError("this task file has no questions.", where=str(path))
    kind: Kind = "choice" if "choices" in first[0] else "last_word"
    return Task(
        name=name,
        kind=kind,
        about=about,
        paper="",
        licence="",
        prompts={"plain": partial(_document, kind)},
        files=(DataFile((str(path.absolute()),), "it was named as a task"),),
    )


def _document(kind: str, record: Record) -> Document:
    if ("choices" in record) != (kind == "choice"):
        raise InputError("items with choices and items with a target are mixed.", where=record.where)
    context = record.values.get("context")
    given = _continuations(record["choices"] if kind == "choice" else [record.values.get("target")])
    if not isinstance(context, str) or len(given) < 1 + (kind == "choice"):
        raise InputError(
            "an item needs a context and a target, or a context, two or more choices and an answer; none may be empty.",
            where=record.where,
        )
    name = str(record.values.get("id", record.number + 1))
    group = str(record.values.get("document", name))
    if kind == "last_word":
        return last_word(context, given[0], id=name, group=group)
    answer = record.values.get("answer")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(given):
        raise InputError(
            f"the answer {answer!r} is not the place of one of the {len(given)} choices.",
            where=record.where,
            mend="Use a place from 0.",
        )
    return choices(context, given, answer, id=name, group=group)


def _continuations(given: Any) -> tuple[str, ...]:
    """The texts of a list, or none if any element is not a text or is empty."""
    texts = [text for text in given if isinstance(text, str) and text] if isinstance(given, list) else []
    return tuple(texts) if texts and len(texts) == len(given) else ()
