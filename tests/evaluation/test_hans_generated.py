"""HANS from our own templates: labels against rules written apart from the templates."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from megalith.errors import RecipeError
from megalith.evaluation.tasks import task
from megalith.evaluation.tasks.hans_generated import hans_records
from megalith.evaluation.tasks.hans_templates import HEURISTICS, SUBCASES, TEMPLATES

RECORDS = hans_records(50, seed=1)
EXAMPLES = [record.values for record in RECORDS]
BESIDE = "(?:near|behind|beside|opposite)"
RULES = (  # a form of the premise, and the sentences that follow from it; the first form that fits counts
    (r"(?:Before|After) the (\w+ \w+) the (.+)", ("The {0}", "The {1}")),
    (r"(?:If|Unless) the .+", ()),
    (r"(?:Because|Since|Although|While) the (.+), the (.+)", ("The {0}", "The {1}")),
    (r"The .+, or the .+", ()),
    (r"The (.+), and the (.+)", ("The {0}", "The {1}")),
    (r"(?:Certainly|Clearly|Obviously|Undoubtedly|Unfortunately) the (.+)", ("The {0}",)),
    (r"(?:Perhaps|Probably|Supposedly|Possibly|Allegedly) the .+", ()),
    (r"The \w+ (?:knew|remembered|forgot|realised|discovered|regretted) that the (.+)", ("The {0}",)),
    (r"The \w+ \w+ that the .+", ()),
    (r"The (\w+) (?:was|were) (\w+) by the (\w+)", ("The {2} {1} the {0}",)),
    (r"The (\w+) who the (\w+) (\w+) (\w+|\w+ the \w+)", ("The {1} {2} the {0}", "The {0} {3}")),
    (r"The (\w+) who (\w+ the \w+) (\w+|\w+ the \w+)", ("The {0} {1}", "The {0} {2}")),
    (r"The (\w+) (\w+) the (\w+) who the (\w+) (\w+)", ("The {0} {1} the {2}", "The {3} {4} the {2}")),
    (r"The (\w+ \w+) the (\w+) who (.+)", ("The {0} the {1}", "The {1} {2}")),
    (r"The (\w+) and the (\w+) (.+)", ("The {0} {2}", "The {1} {2}")),
    (r"The (\w+ \w+) the (\w+) and the (\w+)", ("The {0} the {1}", "The {0} the {2}")),
    (rf"The (\w+) {BESIDE} the \w+ (.+)", ("The {0} {1}",)),
    (rf"The (\w+ \w+ the \w+) {BESIDE} the \w+", ("The {0}",)),
    (r"The \w+ (?:believed|doubted|feared|suspected) the \w+ .+", ()),
    (r"The (\w+) \w+ in the \w+ (.+)", ("The {0} {1}",)),
    (r"The (\w+ \w+)( the \w+)", ("The {0}{1}", "The {0}")),
    (r"(?!The )\w+ (\w+) (.+)", ("{0} {1}",)),
)


def words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def follows(premise: str, hypothesis: str) -> bool:
    for form, sentences in RULES:
        match = re.fullmatch(form, premise.removesuffix("."))
        if match:
            told = [sentence.format(*match.groups()) for sentence in sentences]
            return hypothesis.removesuffix(".").lower() in [sentence.lower() for sentence in told]
    raise AssertionError(f"no rule reads {premise!r}")


def test_labels_agree_with_rules_written_apart_from_the_templates() -> None:
    for example in EXAMPLES:
        found = follows(example["sentence1"], example["sentence2"])
        assert found == (example["gold_label"] == "entailment"), example


def test_each_heuristic_holds_of_its_examples() -> None:
    for example in EXAMPLES:
        premise, hypothesis = words(example["sentence1"]), words(example["sentence2"])
        assert set(hypothesis) <= set(premise)
        side_by_side = any(premise[at:][: len(hypothesis)] == hypothesis for at in range(len(premise)))
        if example["heuristic"] != "lexical_overlap":
            assert side_by_side, example
        elif example["gold_label"] == "entailment":
            assert not side_by_side, example


def test_every_cell_is_full_and_balanced_and_no_pair_comes_twice() -> None:
    assert len(EXAMPLES) == 300
    assert len({(e["sentence1"], e["sentence2"]) for e in EXAMPLES}) == 300
    assert set(Counter((e["heuristic"], e["gold_label"]) for e in EXAMPLES).values()) == {50}
    assert set(Counter(e["subcase"] for e in EXAMPLES).values()) == {10}
    assert len(TEMPLATES) == len(Counter((e["subcase"], e["template"]) for e in EXAMPLES)) == 60
    assert all(not re.search(r"[{}]", e["sentence1"] + e["sentence2"]) for e in EXAMPLES)


def test_a_number_that_five_does_not_divide_is_spread_over_the_subcases() -> None:
    counts = Counter((record["heuristic"], record["gold_label"]) for record in hans_records(7, 1))
    assert set(counts.values()) == {7}


def test_examples_are_the_same_every_time_and_fewer_are_among_more() -> None:
    assert [record.values for record in hans_records(50, seed=1)] == EXAMPLES
    assert [record.values for record in hans_records(50, seed=2)] != EXAMPLES
    assert all(record.values in EXAMPLES for record in hans_records(10, seed=1))


def test_more_examples_than_the_templates_give_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"Set it to \d+ or fewer"):
        hans_records(3000, seed=1)


def test_the_subcases_have_the_official_names_and_order(data_directory: Path) -> None:
    table = data_directory / "benchmarks" / "hans" / "subcases.csv"
    if not table.is_file():
        pytest.skip(f"{table} is missing")
    with table.open() as file:
        rows = [(row["heuristic"], row["label"], row["subcase"]) for row in csv.DictReader(file)]
    assert tuple(rows) == SUBCASES


def test_the_task_asks_them_like_the_official_set() -> None:
    documents = task("hans_generated").read(None, seed=1)
    assert {document.fields["heuristic"] for document in documents} == set(HEURISTICS)
    first = documents[0]
    assert first.prompt.endswith(" True or False?\nAnswer:")
    assert (first.choices[first.gold].continuation, first.label) == (" True", "True")
