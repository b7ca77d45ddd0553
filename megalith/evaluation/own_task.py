"""A user's own task: a YAML file of some twenty lines that names the data, or plain JSON lines (see `plain_task`).

The YAML names a file of JSON lines, comma- or tab-separated values or Parquet, puts its fields into a prompt, and says
what the answer is. docs/own-tasks.md has a worked example.
"""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from megalith.errors import InputError
from megalith.evaluation.answers import first_line, open_domain
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, parquet_rows, table_rows
from megalith.evaluation.plain_task import plain_task
from megalith.evaluation.prompts import LETTERS, choices, generated, last_word
from megalith.evaluation.task import Task
from megalith.input_files import read_text
from megalith.recipe.yaml_values import UnreadableError, read_yaml

Text = Annotated[str, Field(min_length=1)]
_NORMALISE: Mapping[str, Callable[[str], str]] = {"exact": str.strip, "open_domain": open_domain}


class OwnTask(BaseModel):
    """The keys of a task file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Text
    """The questions: a .jsonl, .csv, .tsv or .parquet file, beside this one unless the path is absolute."""
    shots: Text | None = None
    """Solved examples in the same form; without it they are other questions of `data`."""
    about: str = ""
    kind: Literal["choice", "last_word", "generate"] = "choice"
    prompt: Text
    """Text with {field} for a field of the data."""
    preamble: str = ""
    """An instruction before the solved examples."""
    separator: str = "\n\n"
    choices: Text | tuple[Text, ...] = ()
    """The continuations, each with its own space and {field} where wanted; or one {field} that holds a list."""
    answer: Text = "answer"
    """choice: the field that holds the right choice, as its place from 0, its letter or its text. Otherwise: the answer
    as text with {field}, or the field that holds a list of accepted answers."""
    id: Text | None = None
    group: Text | None = None
    """A field whose values are clusters, such as a passage: solved examples come from others."""
    fields: tuple[Text, ...] = ()
    """Fields by which the score is broken down."""
    stop: tuple[Text, ...] = ("\n",)
    tokens: Annotated[int, Field(gt=0, le=4096)] = 32
    """Tokens of a generated answer, at most."""
    match: Literal["exact", "open_domain"] = "open_domain"
    """How generated answers are compared: as they are, or without case, articles and punctuation."""
    version: int = 1


def own_task(path: Path) -> Task:
    """The task of a file, named after it. Raises InputError where it is not a task file, or its data are missing."""
    if path.suffix not in (".yaml", ".yml"):
        return plain_task(path.stem.removesuffix(".jsonl"), path)
    said = _read(path)
    render = partial(_document, said)
    return Task(
        name=path.stem,
        kind=said.kind,
        about=said.about,
        paper="",
        licence="",
        prompts={"own": render},
        files=(_file(path, said.data),),
        shot_files=(_file(path, said.shots),) if said.shots else (),
        records=_records,
        version=said.version,
        separator=said.separator,
        by=said.fields,
        stop=said.stop,
        generated_tokens=said.tokens,
        extract=first_line if said.stop == ("\n",) else str.strip,
        normalise=_NORMALISE[said.match],
    )


def _read(path: Path) -> OwnTask:
    try:
        value = read_yaml(read_text(path)).value
    except UnreadableError as error:
        where = str(path) if error.line is None else f"{path}, line {error.line}"
        raise InputError(f"{error}.", where=where) from error
    if not isinstance(value, dict):
        raise InputError("a task file has keys and values, such as `prompt:`.", where=str(path))
    try:
        said = OwnTask.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            keys = ", ".join(OwnTask.model_fields)
            raise InputError(f"a task file has no key {key!r}.", where=str(path), mend=f"Use {keys}.") from error
        raise InputError(f"{key}: {first['msg']}.", where=str(path), mend=f"Set {key}.") from error
    if said.kind == "choice" and not isinstance(said.choices, str) and len(said.choices) < 2:
        raise InputError("a task of choices needs two or more.", where=f"{path}, choices", mend="Set choices.")
    if said.kind != "choice" and said.choices:
        mend = "Remove choices, or set kind to choice."
        raise InputError(f"a task of kind {said.kind} has no choices.", where=f"{path}, choices", mend=mend)
    return said


def _file(task: Path, name: str) -> DataFile:
    return DataFile((str((task.parent / name).absolute()),), f"{task} names it")


def _records(paths: Sequence[Path]) -> Iterator[Record]:
    suffixes = paths[0].suffixes
    if ".parquet" in suffixes:
        return parquet_rows(paths[0])
    return table_rows(paths[0]) if {".csv", ".tsv"} & {*suffixes} else json_lines(paths[0])


def _document(said: OwnTask, record: Record) -> Document:
    prompt = _filled(said.prompt, record)
    name = str(record[said.id]) if said.id else ""
    group = str(record[said.group]) if said.group else ""
    fields = {key: str(record[key]) for key in said.fields}
    if said.kind == "choice":
        options = _options(said, record)
        gold = _gold(said.answer, record, options)
        fixed = not isinstance(said.choices, str) and not any("{" in one for one in said.choices)
        return choices(
            prompt,
            options,
            gold,
            id=name,
            group=group,
            fields=fields,
            preamble=said.preamble,
            label=options[gold].strip() if fixed else "",
        )
    if said.kind == "last_word":
        answer = _filled(said.answer, record) if "{" in said.answer else record.text(said.answer)
        if not answer.strip():
            raise InputError("the answer is empty.", where=record.where)
        return last_word(prompt, answer, id=name, group=group, preamble=said.preamble)
    answers = _accepted(said.answer, record)
    return generated(prompt, answers, id=name, group=group, fields=fields, preamble=said.preamble)


def _filled(template: str, record: Record) -> str:
    """The template with the record's fields; "{{" stands for a brace."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        values: Mapping[str, Any] = {name: record[name] for name in names}
    except ValueError as error:
        mend = "Write {{ and }} for braces that are part of the text."
        raise InputError(f"the template {template!r} has a brace too many: {error}.", mend=mend) from error
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise InputError(f"the field {missing[0]!r} is empty.", where=record.where)
    return string.Formatter().vformat(template, (), {name: str(value) for name, value in values.items()})


def _options(said: OwnTask, record: Record) -> tuple[str, ...]:
    if isinstance(said.choices, str):
        listed = record.texts(said.choices.strip().strip("{}"))
        options = tuple(f" {option.strip()}" for option in listed)
    else:
        options = tuple(_filled(one, record) for one in said.choices)
    if len(options) < 2 or not all(option.strip() for option in options):
        raise InputError(f"two or more choices are wanted, none empty: {options!r}.", where=record.where)
    return options


def _gold(field: str, record: Record, options: Sequence[str]) -> int:
    value = record[field]
    if isinstance(value, bool):
        value = int(value)
    texts = [option.strip() for option in options]
    said = str(value).strip()
    if said in texts:
        return texts.index(said)
    if said.isdigit() and int(said) < len(options):
        return int(said)
    if len(said) == 1 and said in LETTERS[: len(options)]:
        return LETTERS.index(said)
    raise InputError(
        f"the label {value!r} is none of the {len(options)} choices ({', '.join(texts)[:200]}).",
        where=record.where,
        mend="Use a place from 0, a letter from A, or the text of a choice.",
    )


def _accepted(answer: str, record: Record) -> tuple[str, ...]:
    if "{" in answer:
        found: tuple[str, ...] = (_filled(answer, record),)
    else:
        value = record[answer]
        found = record.texts(answer) if isinstance(value, list) else (str(value),)
    if not found or not all(one.strip() for one in found):
        raise InputError(f"the answer {found!r} is empty.", where=record.where)
    return found
