"""HANS: does the model reason, or answer "true" wherever the hypothesis looks like the premise?

The prompt is that of GPT-3 and MT-NLG; the answer is the more likely of " True" and " False". The margin log P(True) −
log P(False) is more informative than the answer of a small model, which is always the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megalith.audit.instrument import Instrument, Run
from megalith.audit.subject import Subject
from megalith.audit.templates import ENTAILED, HEURISTICS, LABELS, TEMPLATES, WORDS, Template
from megalith.errors import RecipeError
from megalith.inference import Request, draw, keyed_hash
from megalith.statistics import mean_and_standard_error, wilson_interval

CHANCE = 0.5
_ANSWERS = (" True", " False")
_TRIES = 200  # draws for one example that differs from all others


@dataclass(frozen=True)
class Example:
    """A premise and a hypothesis, and whether the hypothesis follows."""

    id: str
    heuristic: str
    label: str
    template: str
    premise: str
    hypothesis: str

    @property
    def question(self) -> str:
        return f"{self.premise}\nQuestion: {self.hypothesis} True or False?\nAnswer:"

    @property
    def answer(self) -> str:
        return _ANSWERS[self.label != ENTAILED]


def hans(count: int, shots: int, seed: int) -> Instrument:
    """Return the instrument with `count` examples of each heuristic and label. Raises RecipeError as `examples`."""
    asked = examples(count, seed)
    return Instrument(
        [Run("hans", lambda subject: judge(subject, asked, shots, seed))], lambda found: summary(found["hans"])
    )


def examples(count: int, seed: int) -> list[Example]:
    """Return `count` different examples of each heuristic and label, from its five templates in turn.

    Raises RecipeError if the templates do not yield as many.
    """
    return [
        example
        for heuristic in HEURISTICS
        for label in LABELS
        for example in _cell([t for t in TEMPLATES if (t.heuristic, t.label) == (heuristic, label)], count, seed)
    ]


def judge(subject: Subject, asked: Sequence[Example], shots: int, seed: int) -> list[dict[str, Any]]:
    """Score each example: its margin in nats, and whether the answer is right: 1, 0, or ½ for a margin of 0."""
    shown = [_shots(asked, place, shots, seed) for place in range(len(asked))]
    requests = [
        Request("".join(f"{shot.question}{shot.answer}\n\n" for shot in before) + example.question, _ANSWERS)
        for example, before in zip(asked, shown, strict=True)
    ]
    results = []
    for example, before, (true, false) in zip(asked, shown, subject.score(requests), strict=True):
        margin = round(true.log_probability - false.log_probability, 6)
        says_entailed = 0.5 if margin == 0 else float(margin > 0)
        results.append(
            {
                "id": example.id,
                "heuristic": example.heuristic,
                "label": example.label,
                "template": example.template,
                "premise": example.premise,
                "hypothesis": example.hypothesis,
                "shots": [shot.id for shot in before],
                "labels": [shot.label for shot in before],
                "margin": margin,
                "correct": says_entailed if example.label == ENTAILED else 1 - says_entailed,
                "truncated": true.truncated or false.truncated,
            }
        )
    return results


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the accuracy over all examples and by heuristic × label, with 95 % Wilson intervals."""
    correct = [result["correct"] for result in results]
    accuracy, error = mean_and_standard_error(correct)
    interval = wilson_interval(sum(correct), len(correct))
    said_true = sum(result["margin"] > 0 for result in results) / len(results)
    cells = [
        _cell_summary(heuristic, label, [r for r in results if (r["heuristic"], r["label"]) == (heuristic, label)])
        for heuristic in HEURISTICS
        for label in LABELS
    ]
    return {
        "examples": len(results),
        "accuracy": accuracy,
        "standard_error": error,
        "interval": list(interval),
        "chance": CHANCE,
        "answered_true": said_true,
        "truncated": sum(result["truncated"] for result in results),
        "cells": cells,
        "note": _note(accuracy, interval, said_true),
    }


def _cell(templates: Sequence[Template], count: int, seed: int) -> list[Example]:
    made: dict[tuple[str, str], Example] = {}
    for number in range(count):
        template = templates[number % len(templates)]
        name = f"{template.heuristic}/{template.label}/{template.name}/{number // len(templates)}"
        example = next(
            (
                new
                for attempt in range(_TRIES)
                if _pair(new := _fill(template, name, f"{name}/{attempt}", seed)) not in made
            ),
            None,
        )
        if example is None:
            raise RecipeError(
                f"the template {template.heuristic} / {template.name} yields only {number} different examples.",
                where="audit.hans_examples",
                mend=f"Set it to {number} or fewer.",
            )
        made[_pair(example)] = example
    return list(made.values())


def _pair(example: Example) -> tuple[str, str]:
    return example.premise, example.hypothesis


def _fill(template: Template, name: str, key: str, seed: int) -> Example:
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
    return Example(name, template.heuristic, template.label, template.name, premise, hypothesis)


def _shots(asked: Sequence[Example], place: int, count: int, seed: int) -> list[Example]:
    """Draw solved examples for a prompt, balanced over both labels, in a random order."""
    chosen: list[Example] = []
    for label, share in zip(LABELS, (count - count // 2, count // 2), strict=True):
        others = [at for at, other in enumerate(asked) if at != place and other.label == label]
        drawn = draw(seed, f"{asked[place].id}/{label}", others, min(share, len(others)))
        chosen += [asked[at] for at in drawn]
    return sorted(chosen, key=lambda shot: keyed_hash(seed, f"{asked[place].id}/{shot.id}"))


def _cell_summary(heuristic: str, label: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    correct = [result["correct"] for result in results]
    return {
        "heuristic": heuristic,
        "label": label,
        "accuracy": sum(correct) / len(correct),
        "documents": len(correct),
        "interval": list(wilson_interval(sum(correct), len(correct))),
        "mean_margin": sum(result["margin"] for result in results) / len(results),
    }


def _note(accuracy: float, interval: tuple[float, float], said_true: float) -> str:
    low, high = interval
    said = f"It answered True to {said_true:.0%} of the questions."
    if low <= CHANCE <= high:
        return f"Accuracy {accuracy:.1%} is not told apart from chance ({low:.1%} – {high:.1%} holds 50 %). {said}"
    side = "above" if low > CHANCE else "below"
    return f"Accuracy {accuracy:.1%} is {side} chance ({low:.1%} – {high:.1%} leaves out 50 %). {said}"
