"""The official files: how many questions, and prompts that are lm-eval's to the letter.

The prompts are compared with rows that lm-eval 0.4.13's templates made (`real_models/sample`, ten documents each).
"""

import collections
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from megalith.evaluation.document import Document
from megalith.evaluation.shots import Shot, with_shots
from megalith.evaluation.tasks import TASKS, task

ROOT = Path(os.environ.get("MEGALITH_DATA", "../shared/data"))
DATA = ROOT / "benchmarks"
SAMPLE = ROOT.parent / "real_models/sample"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason="MEGALITH_DATA has no benchmarks"),
]

COUNTS = {
    "lambada": 5153, "race_high": 3498, "boolq": 3270, "piqa": 1838, "hellaswag": 10042, "winogrande": 1267,
    "anli_r1": 1000, "anli_r2": 1000, "anli_r3": 1200, "hans": 30000, "rte": 277, "cb": 56, "wic": 500, "wsc": 104,
    "copa": 100, "arc_easy": 570, "arc_challenge": 299, "openbookqa": 500, "commonsense_qa": 1221, "siqa": 1954,
    "sciq": 1000, "mmlu": 14042, "gsm8k": 1319, "bbh": 6511, "blimp": 67000, "triviaqa": 7993, "nq_open": 3610,
    "webquestions": 2032, "jeopardy": 2116, "sst2": 872, "two_digit_addition": 2000, "reversed_words": 10000,
}  # fmt: skip


@pytest.fixture(scope="module")
def documents() -> dict[str, list[Document]]:
    return {}


def read(name: str, documents: dict[str, list[Document]]) -> list[Document]:
    if name not in documents:
        documents[name] = task(name).read(DATA)
    return documents[name]


LARGE = {"blimp", "hans", "hellaswag", "mmlu", "race_high", "boolq", "anli_r1", "anli_r2", "anli_r3", "sciq", "bbh"}
"""They take seconds to read; the other tests read some of them."""


def by_size(names: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names]


@pytest.mark.parametrize("name", by_size(COUNTS))
def test_every_question_of_the_official_file_is_there(name: str, documents: dict[str, list[Document]]) -> None:
    found = read(name, documents)
    assert len(found) == COUNTS[name]
    for one in found:
        assert one.solved and (one.answers if task(name).kind == "generate" else one.choices)
        assert all(choice.continuation for choice in one.choices)


@pytest.mark.parametrize("name", by_size(name for name, one in TASKS.items() if len(one.prompts) > 1))
def test_every_wording_asks_the_same_questions(name: str, documents: dict[str, list[Document]]) -> None:
    usual = read(name, documents)
    for prompt in TASKS[name].prompts:
        other = TASKS[name].read(DATA, prompt)
        assert [(one.id, one.answers) for one in other] == [(one.id, one.answers) for one in usual]
        assert [one.gold for one in other] == [one.gold for one in usual]


@pytest.mark.parametrize("name", ["boolq", "lambada", "openbookqa", "rte", "cb", "wic", "hans", "blimp"])
def test_prompts_are_those_of_lm_eval(name: str, documents: dict[str, list[Document]]) -> None:
    rows = [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text().splitlines()]
    found = read(name, documents)
    if name == "blimp":
        found = [one for one in found if one.fields["paradigm"] == "regular_plural_subject_verb_agreement_1"]
    by_id = {one.id: one for one in found}
    for row in rows:
        one = by_id[str(row["id"])] if name != "blimp" else found[row["id"]]
        assert {choice.context for choice in one.choices} == {row["context"]}
        assert [choice.continuation for choice in one.choices] == [choice["continuation"] for choice in row["choices"]]
        assert one.gold == row["label"]


def test_eight_shots_of_mmlu_are_those_of_lm_eval(documents: dict[str, list[Document]]) -> None:
    """The sample shows the first example of the first eight subjects before each question."""
    pool = TASKS["mmlu"].pool(DATA, "plain")
    firsts = list({one.fields["subject"]: at for at, one in reversed(list(enumerate(pool)))}.values())[::-1][:8]
    shots = [Shot(at, pool[at].solved, "") for at in firsts]
    asked = {with_shots(one, shots).prompt: one for one in TASKS["mmlu"].read(DATA, "plain")}
    for row in map(json.loads, (SAMPLE / "mmlu8.jsonl").read_text().splitlines()):
        one = asked[row["context"]]
        assert one.gold == row["label"]
        assert [choice.continuation for choice in one.choices] == [choice["continuation"] for choice in row["choices"]]


def test_mmlu_has_57_subjects_with_five_examples_each(documents: dict[str, list[Document]]) -> None:
    pool = collections.Counter(one.fields["subject"] for one in TASKS["mmlu"].pool(DATA))
    assert len(pool) == 57 and set(pool.values()) == {5}
    assert {one.fields["subject"] for one in read("mmlu", documents)} == set(pool)


def test_big_bench_hard_has_three_worked_examples_of_each_task_but_none_is_a_question() -> None:
    pool = collections.Counter(one.fields["task"] for one in TASKS["bbh"].pool(DATA))
    assert len(pool) == 27 and set(pool.values()) == {3}
    assert all("the answer is" in one.solved for one in TASKS["bbh_cot"].pool(DATA))


def test_race_clusters_questions_by_passage(documents: dict[str, list[Document]]) -> None:
    assert len({one.group for one in read("race_high", documents)}) == 1045


def test_hans_has_a_thousand_pairs_of_each_of_30_sub_cases(documents: dict[str, list[Document]]) -> None:
    counts = collections.Counter(one.fields["subcase"] for one in read("hans", documents))
    assert len(counts) == 30 and set(counts.values()) == {1000}


@pytest.mark.parametrize("size", [2, 103])
def test_wikitext_has_the_published_number_of_words(size: int) -> None:
    """Megatron-LM parts the stripped file by single spaces; Merity et al. count an end on each of the 4,358 lines."""
    from megalith.evaluation.tasks.wikitext import original

    (path,) = task(f"wikitext{size}").paths(DATA)
    text = original(path)
    assert len(text.strip().split(" ")) == 245_566
    assert len(text.split()) + text.count("\n") == 245_569
    (whole,) = task(f"wikitext{size}").read(DATA)
    assert whole.fields["words"] == "245566"


def test_the_detokenised_text_is_lm_eval_s() -> None:
    preprocess = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext")
    from megalith.evaluation.tasks.wikitext import detokenised, original

    for size in (2, 103):
        tokens = original(task(f"wikitext{size}").paths(DATA)[0]).strip()
        assert detokenised(tokens) == preprocess.wikitext_detokenizer({"page": tokens})
