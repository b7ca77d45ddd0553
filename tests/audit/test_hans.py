"""HANS from our own templates: labels against rules written apart from the templates, and planted answers."""

import itertools
import math
import re
from collections import Counter

import pytest
import torch

from megalith.audit import hans
from megalith.audit.subject import LanguageSubject
from megalith.audit.templates import HEURISTICS, LABELS, TEMPLATES
from megalith.errors import RecipeError
from megalith.inference import LanguageModel
from tests.inference.models import logits_of, plant

EXAMPLES = hans.examples(50, seed=1)


def words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def follows(premise: str, hypothesis: str) -> bool | None:
    """Whether the hypothesis follows, by rules for the forms that a short grammar can read; None for the others."""
    text = premise.removesuffix(".")
    said: set[str] = set()
    if match := re.fullmatch(r"The (\w+) was (\w+) by the (\w+)", text):
        a, verb, b = match.groups()
        said = {f"The {b} {verb} the {a}"}
    elif match := re.fullmatch(r"The (\w+) who the (\w+) (\w+) (\w+) the (\w+)", text):
        a, b, inner, outer, c = match.groups()
        said = {f"The {b} {inner} the {a}", f"The {a} {outer} the {c}"}
    elif match := re.fullmatch(r"The (\w+) who (\w+) the (\w+) (\w+)( the \w+)?", text):
        a, inner, b, outer, rest = match.groups()
        said = {f"The {a} {inner} the {b}", f"The {a} {outer}{rest or ''}"}
    elif match := re.fullmatch(r"The (\w+) and the (\w+) (\w+)( the \w+)?", text):
        a, b, verb, rest = match.groups()
        said = {f"The {a} {verb}{rest or ''}", f"The {b} {verb}{rest or ''}"}
    elif match := re.fullmatch(r"The (\w+) (\w+) the (\w+) and the (\w+)", text):
        a, verb, b, c = match.groups()
        said = {f"The {a} {verb} the {b}", f"The {a} {verb} the {c}"}
    elif match := re.fullmatch(r"(If|Unless|Because|Since|Although|While) the (.+), the (.+)", text):
        if match[1] not in ("If", "Unless"):
            said = {f"The {match[2]}", f"The {match[3]}"}
    elif match := re.fullmatch(r"The (.+), (and|or) the (.+)", text):
        if match[2] == "and":
            said = {f"The {match[1]}", f"The {match[3]}"}
    elif match := re.fullmatch(r"The (\w+) (\w+) that the (.+)", text):
        if match[2] in ("knew", "remembered", "forgot", "realised", "discovered", "regretted"):
            said = {f"The {match[3]}"}
    elif match := re.fullmatch(r"The (\w+) (?:near|behind|beside|opposite) the (\w+) (\w+)( the \w+)?", text):
        said = {f"The {match[1]} {match[3]}{match[4] or ''}"}
    elif match := re.fullmatch(r"The (\w+) (\w+) the (\w+)", text):
        said = {text}
        if "the" not in words(hypothesis)[2:]:  # an object left out
            said = {f"The {match[1]} {match[2]}"}
    else:
        return None
    return hypothesis.removesuffix(".") in said


def test_labels_agree_with_rules_written_apart_from_the_templates() -> None:
    judged = {(e.heuristic, e.label, e.template): follows(e.premise, e.hypothesis) for e in EXAMPLES}
    for example in EXAMPLES:
        found = follows(example.premise, example.hypothesis)
        assert found is None or found == (example.label == "entailment"), example
    assert sum(found is not None for found in judged.values()) >= 22  # of 30 templates; the others are read by people


def test_each_heuristic_holds_of_its_examples() -> None:
    for example in EXAMPLES:
        premise, hypothesis = words(example.premise), words(example.hypothesis)
        assert set(hypothesis) <= set(premise)
        side_by_side = any(premise[at:][: len(hypothesis)] == hypothesis for at in range(len(premise)))
        if example.heuristic != "lexical_overlap":
            assert side_by_side, example
        elif example.label == "entailment":
            assert not side_by_side, example


def test_every_cell_is_full_and_balanced_and_no_pair_comes_twice() -> None:
    assert len(EXAMPLES) == 300
    assert len({(e.premise, e.hypothesis) for e in EXAMPLES}) == 300
    assert set(Counter((e.heuristic, e.label) for e in EXAMPLES).values()) == {50}
    assert len(TEMPLATES) == len(Counter((e.heuristic, e.label, e.template) for e in EXAMPLES)) == 30
    assert all(not re.search(r"[{}]", e.premise + e.hypothesis) for e in EXAMPLES)


def test_examples_are_the_same_every_time_and_more_keep_the_fewer() -> None:
    assert hans.examples(50, seed=1) == EXAMPLES
    assert hans.examples(50, seed=2) != EXAMPLES
    assert set(hans.examples(10, seed=1)) <= set(EXAMPLES)


def test_more_examples_than_the_templates_give_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"Set it to \d+ or fewer"):
        hans.examples(3000, seed=1)


@pytest.mark.parametrize(("true", "false"), [(3.0, 1.0), (1.0, 3.0)])
def test_a_model_that_always_answers_alike_is_right_on_one_label_alone(
    lm: LanguageModel, true: float, false: float
) -> None:
    logits = logits_of(lm.tokenizer, {" True": true, " False": false})
    found = hans.judge(LanguageSubject(plant(lm, logits.repeat(len(logits), 1)), 1000), EXAMPLES[::5], 0, 1)
    assert len(lm.tokenizer.encode(" True")) == len(lm.tokenizer.encode(" False")) == 1
    assert {result["margin"] for result in found} == {true - false}
    told = hans.summary(found)
    assert (told["accuracy"], told["examples"], told["answered_true"]) == (0.5, 60, float(true > false))
    for cell in told["cells"]:
        assert cell["accuracy"] == float((cell["label"] == "entailment") == (true > false))
        assert cell["documents"] == 10
    named = [(cell["heuristic"], cell["label"]) for cell in told["cells"]]
    assert named == list(itertools.product(HEURISTICS, LABELS))
    assert "not told apart from chance" in told["note"]


def test_no_margin_is_half_right(lm: LanguageModel) -> None:
    uniform = plant(lm, torch.zeros(512, 512))
    found = hans.judge(LanguageSubject(uniform, 1000), EXAMPLES[:1], 0, 1)
    assert [result["correct"] for result in found] == [0.5]


def test_the_note_follows_the_interval() -> None:
    def results(right: int) -> list[dict[str, object]]:
        return [
            {**cell, "correct": float(at < right), "margin": 1.0, "truncated": False}
            for at in range(100)
            for cell in [{"heuristic": HEURISTICS[at % 3], "label": LABELS[at % 2]}]
        ]

    assert "not told apart from chance" in hans.summary(results(55))["note"]
    assert "above chance" in hans.summary(results(70))["note"]
    assert "below chance" in hans.summary(results(30))["note"]
    assert hans.summary(results(70))["standard_error"] == pytest.approx(math.sqrt(0.7 * 0.3 / 99))


def test_shots_are_other_examples_of_both_labels(lm: LanguageModel) -> None:
    for result in hans.judge(LanguageSubject(lm, 4000), EXAMPLES[::10], 4, 1):
        assert result["id"] not in result["shots"]
        assert Counter(result["labels"]) == {"entailment": 2, "non-entailment": 2}
        assert len(set(result["shots"])) == 4
