"""Documents from a prompt and its answers, and the small rules that several prompts share."""

from collections.abc import Mapping, Sequence
from typing import Any

from megalith.errors import InputError
from megalith.evaluation.document import Choice, Document
from megalith.evaluation.formats import Record

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def choices(
    prompt: str,
    answers: Sequence[str],
    gold: int,
    *,
    id: str = "",
    label: str = "",
    group: str = "",
    fields: Mapping[str, str] | None = None,
    preamble: str = "",
    stem: str = "",
    options: Sequence[str] = (),
) -> Document:
    """A multiple-choice question whose answers are compared as continuations of the same prompt."""
    return Document(
        id=id,
        prompt=prompt,
        preamble=preamble,
        choices=tuple(Choice(prompt, answer) for answer in answers),
        gold=gold,
        solved=prompt + answers[gold],
        solved_as=tuple(prompt + answer for answer in answers),
        label=label,
        group=group,
        fields=fields or {},
        stem=stem,
        options=tuple(options),
    )


def classes(prompt: str, answers: Sequence[str], gold: int, **more: Any) -> Document:
    """As `choices`, where the answers are the same for all questions: the right one is the class."""
    return choices(prompt, answers, gold, label=answers[gold].strip(), **more)


def last_word(context: str, word: str, *, id: str = "", preamble: str = "", group: str = "") -> Document:
    """A text whose last word (with the space before it) must be predicted."""
    return Document(
        id=id,
        prompt=context,
        preamble=preamble,
        choices=(Choice(context, word),),
        solved=context + word,
        group=group,
    )


def generated(
    prompt: str,
    answers: Sequence[str],
    *,
    solved: str = "",
    id: str = "",
    preamble: str = "",
    fields: Mapping[str, str] | None = None,
    group: str = "",
) -> Document:
    """A question that is answered by generated text; `solved` is the worked answer with its space, if it is longer."""
    return Document(
        id=id,
        prompt=prompt,
        preamble=preamble,
        answers=tuple(answers),
        solved=prompt + (solved or f" {answers[0]}"),
        fields=fields or {},
        group=group,
    )


def listed(stem: str, options: Sequence[str]) -> str:
    """A question with its options by letter, as MMLU lists them."""
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{stem}{lines}\nAnswer:"


def labelled_choices(record: Record) -> tuple[str, list[str], int]:
    """Question, options and place of the right one in AllenAI's two shapes: flat, or nested under `question`."""
    question = record["question"]
    stem = question["stem"] if isinstance(question, dict) else question
    given = question["choices"] if isinstance(question, dict) else record["choices"]
    if isinstance(given, dict):
        texts, labels = list(given["text"]), list(given["label"])
    else:
        texts, labels = [one["text"] for one in given], [one["label"] for one in given]
    return str(stem), texts, record.place("answerKey", tuple(labels))


def truth(record: Record, name: str) -> int:
    """0 or 1 for a field that is false or true, as JSON or as text."""
    value = str(record[name]).lower()
    if value not in ("false", "true", "0", "1"):
        raise InputError(f"the field {name!r} is {record[name]!r}, and true or false is wanted.", where=record.where)
    return int(value in ("true", "1"))
