"""HANS made on the spot from templates for all 30 sub-cases, with words of our own: free of contamination."""

import re
from collections.abc import Iterator
from typing import Any

from megalith.errors import RecipeError
from megalith.evaluation.formats import Record
from megalith.evaluation.task import Task
from megalith.evaluation.tasks.hans import hans_document
from megalith.evaluation.tasks.hans_templates import HEURISTICS, LABELS, SUBCASES, TEMPLATES, WORDS, Template
from megalith.inference.draws import draw

_PER_CELL = 200
_TRIES = 200  # draws for one example that differs from all others


def hans_records(per_cell: int, seed: int) -> list[Record]:
    """Return different examples in HANS's official fields: `per_cell` of each heuristic and label.

    The sub-cases of a cell have equally many, up to one, and their templates come in turn. Fewer are among more. Raises
    RecipeError if the templates do not yield as many.
    """
    found = []
    for heuristic in HEURISTICS:
        for label in LABELS:
            own = [subcase for *cell, subcase in SUBCASES if cell == [heuristic, label]]
            for place, subcase in enumerate(own):
                found += _examples(subcase, per_cell // len(own) + (place < per_cell % len(own)), seed)
    return [Record(values, values["pairID"], number) for number, values in enumerate(found)]


def _examples(subcase: str, count: int, seed: int) -> list[dict[str, str]]:
    templates = [template for template in TEMPLATES if template.subcase == subcase]
    made: dict[tuple[str, str], dict[str, str]] = {}
    for number in range(count):
        example = _new(templates[number % len(templates)], number // len(templates), made, seed)
        if example is None:
            raise RecipeError(
                f"the templates of {subcase} yield only {number} different examples.",
                where="audit.hans_examples",
                mend=f"Set it to {5 * number} or fewer.",
            )
        made[_pair(example)] = example
    return list(made.values())


def _new(
    template: Template, number: int, made: dict[tuple[str, str], dict[str, str]], seed: int
) -> dict[str, str] | None:
    name = f"{template.subcase}/{template.name}/{number}"
    for attempt in range(_TRIES):
        example = _fill(template, name, f"{name}/{attempt}", seed)
        if _pair(example) not in made:
            return example
    return None


def _pair(example: dict[str, str]) -> tuple[str, str]:
    return example["sentence1"], example["sentence2"]


def _fill(template: Template, name: str, key: str, seed: int) -> dict[str, str]:
    slots = sorted(set(re.findall(r"{(\w\d)", template.premise)))
    words: dict[str, Any] = {}
    for letter in dict.fromkeys(slot[0] for slot in slots):
        own = [slot for slot in slots if slot[0] == letter]
        places = draw(seed, f"{key}/{letter}", range(len(WORDS[letter])), len(own))
        words |= {slot: WORDS[letter][place] for slot, place in zip(own, places, strict=True)}
    premise, hypothesis = (
        f"{sentence[0].upper()}{sentence[1:]}."
        for sentence in (template.premise.format(**words), template.hypothesis.format(**words))
    )
    return {
        "pairID": name,
        "gold_label": template.label,
        "sentence1": premise,
        "sentence2": hypothesis,
        "heuristic": template.heuristic,
        "subcase": template.subcase,
        "template": template.name,
    }


def _make(seed: int) -> Iterator[Record]:
    return iter(hans_records(_PER_CELL, seed))


HANS_GENERATED = Task(
    name="hans_generated",
    kind="choice",
    about="inference that shallow heuristics get wrong, made on the spot for all 30 sub-cases",
    paper="after McCoy et al. 2019, arXiv 1902.01007",
    licence="the project's own",
    prompts={"lm_eval": hans_document},
    make=_make,
    cluster="template",
    by=("heuristic", "label", "subcase"),
)
