"""Tasks under planted models: the score that was built in comes out."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from megalith.errors import InputError
from megalith.evaluation import scored as tasks
from megalith.evaluation.arithmetic import arithmetic_items
from megalith.evaluation.items import Item, read_items, select, shots_of
from megalith.inference import LanguageModel
from tests.inference.models import VOCAB_SIZE, plant


def ignore(done: int, total: int) -> None: ...


def item(name: str, context: str, *choices: str, answer: int = 0, source: str | None = None) -> Item:
    return Item(name, source or name, "", context, choices, answer)


def chained(lm: LanguageModel, *texts: str) -> LanguageModel:
    """A model that continues each of these texts as it stands."""
    table = torch.zeros(VOCAB_SIZE, VOCAB_SIZE)
    for text in texts:
        for before, after in itertools.pairwise(lm.tokenizer.encode(text)):
            table[before, after] = 20.0
    return plant(lm, table)


def test_a_last_word_counts_only_if_all_its_tokens_are_first_choices(lm: LanguageModel) -> None:
    model = chained(lm, "The baker laughed")
    items = [item("right", "The baker", " laughed"), item("half", "The baker", " laughed Q")]
    right, half = tasks.last_word(model, items, [[], []], 1000, ignore)
    assert (right["greedy"], half["greedy"]) == (True, False)
    assert right["log_probability"] == pytest.approx(0.0, abs=1e-5)


def test_the_likeliest_choice_is_the_prediction(lm: LanguageModel) -> None:
    model = chained(lm, "The baker laughed", "The nurse was a woman")
    items = [
        item("a", "The baker", " pilot", " laughed", answer=1),
        item("b", "The nurse was a", " pilot", " woman", answer=0),
    ]
    right, wrong = tasks.continuation(model, items, [[], []], 1000, ignore)
    assert (right["accuracy"], right["predicted"]) == (1.0, 1)
    assert (wrong["accuracy"], wrong["predicted"]) == (0.0, 1)


def test_per_byte_a_long_choice_is_not_punished_for_its_length(lm: LanguageModel) -> None:
    """Under a uniform model a choice costs log V a token: " Q" is two in 2 bytes, " laughed" thrice is three in 24."""
    uniform = plant(lm, torch.zeros(VOCAB_SIZE, VOCAB_SIZE))
    question = item("q", "The baker", " Q", " laughed" * 3, answer=1)
    (found,) = tasks.continuation(uniform, [question], [[]], 1000, ignore)
    assert found["bytes"] == [2, 24]
    assert found["log_probabilities"] == pytest.approx([-2 * math.log(VOCAB_SIZE), -3 * math.log(VOCAB_SIZE)])
    assert (found["accuracy"], found["accuracy_per_byte"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "answer", "expected"),
    [
        ([-1.0, -2.0, -3.0], 0, 1.0),
        ([-1.0, -2.0, -3.0], 2, 0.0),
        ([-1.0, -1.0, -3.0], 1, 0.5),
        ([-1.0, -1.0, -1.0], 2, 1 / 3),
        ([-1.0, -1.000001, -3.0], 1, 0.5),  # within what fp32 leaves uncertain
    ],
)
def test_a_shared_first_place_is_shared_credit(scores: list[float], answer: int, expected: float) -> None:
    assert tasks.credit(scores, answer) == pytest.approx(expected)


def test_a_model_that_finds_all_choices_alike_scores_chance_exactly(lm: LanguageModel) -> None:
    uniform = plant(lm, torch.zeros(VOCAB_SIZE, VOCAB_SIZE))
    items = [item(str(at), "It is", " a", " b", " c", " d", answer=at % 4) for at in range(8)]
    found = tasks.continuation(uniform, items, [[]] * 8, 1000, ignore)
    assert sum(result["accuracy"] for result in found) / 8 == 0.25


def test_arithmetic_wants_the_whole_answer_and_the_end_of_the_line(lm: LanguageModel) -> None:
    question = item("sum", "Q: What is 12 plus 30?\nA:", " 42")
    right = chained(lm, "A: 42\n")
    too_long = chained(lm, "A: 420", "0\n")
    assert tasks.arithmetic(right, [question], [[]], 1000, ignore)[0]["correct"]
    found = tasks.arithmetic(too_long, [question], [[]], 1000, ignore)[0]
    assert (found["generated"].strip(), found["correct"]) == ("420", False)


def test_every_generated_answer_is_right_and_every_question_another() -> None:
    items = arithmetic_items(seed=3)
    assert len({one.id for one in items}) == len(items) == 250
    for one in items:
        a, word, b = one.context.removeprefix("Q: What is ").removesuffix("?\nA:").split(" ")
        sign = {"plus": "+", "minus": "-", "times": "*"}[word]
        assert one.target == f" {eval(f'{a} {sign} {b}')}"
    assert items == arithmetic_items(seed=3) != arithmetic_items(seed=4)


def test_the_prompt_is_solved_examples_and_then_the_question() -> None:
    asked = item("q", "Q: What is 1 plus 1?\nA:", " 2")
    shot = item("s", "Q: What is 2 plus 2?\nA:", " 4")
    assert tasks.prompt(asked, [shot]) == "Q: What is 2 plus 2?\nA: 4\n\nQ: What is 1 plus 1?\nA:"


POOL = [item(f"i{at}", f"context {at}", " yes", source=f"d{at // 3}") for at in range(30)]


def test_shots_do_not_depend_on_order_or_subset_of_what_is_judged() -> None:
    whole = {one.id: shots_of(one, POOL, 3, seed=7) for one in POOL}
    assert {one.id: shots_of(one, POOL, 3, seed=7) for one in POOL[20:4:-3]}.items() <= whole.items()
    assert whole != {one.id: shots_of(one, POOL, 3, seed=8) for one in POOL}


def test_shots_are_never_of_the_item_s_own_document_and_of_its_kind_alone() -> None:
    for one in POOL:
        shots = shots_of(one, POOL, 5, seed=7)
        assert shots is not None and len({shot.id for shot in shots}) == 5
        assert all(shot.source != one.source for shot in shots)
    sums = arithmetic_items(seed=1)
    for one in sums[:25]:
        shots = shots_of(one, sums, 3, seed=1)
        assert shots is not None and all(shot.kind == one.kind and shot.id != one.id for shot in shots)


def test_too_few_examples_are_no_examples() -> None:
    assert shots_of(POOL[0], POOL[:5], 2, seed=7) is not None
    assert shots_of(POOL[0], POOL[:5], 3, seed=7) is None
    assert tasks.show(POOL[:5], POOL[:5], 3, seed=7) is None


def test_a_selection_does_not_depend_on_the_order_of_the_file() -> None:
    chosen = select(POOL, 10, seed=1)
    assert len(chosen) == 10 and chosen != POOL[:10]
    assert {one.id for one in chosen} == {one.id for one in select(POOL[::-1], 10, seed=1)}
    assert select(POOL, 100, seed=1) == POOL


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_both_shapes_of_item_are_read(tmp_path: Path) -> None:
    choice = {"id": "c", "document": "d", "context": "It is", "choices": [" a", " b"], "answer": 1}
    (read,) = read_items(write(tmp_path / "choice.jsonl", choice))
    assert read == Item("c", "d", "", "It is", (" a", " b"), 1)
    first, second = read_items(
        write(tmp_path / "word.jsonl", {"context": "It", "target": " is"}, {"context": "", "target": "x"})
    )
    assert (first.target, first.id, second.id) == (" is", "1", "2")
    assert read_items(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"context": "It"}], "line 1: an item needs"),
        ([{"context": "It", "target": ""}], "may be empty"),
        ([{"context": "It", "choices": [" a"], "answer": 0}], "two or more choices"),
        ([{"context": "It", "choices": [" a", ""], "answer": 0}], "may be empty"),
        ([{"context": "It", "choices": [" a", " b"], "answer": 2}], "the answer 2"),
        ([{"context": "It", "choices": [" a", " b"], "answer": "b"}], "the answer 'b'"),
        (
            [{"context": "It", "target": " a"}, {"context": "It", "choices": [" a", " b"], "answer": 0}],
            "line 2: .*mixed",
        ),
        ([{"id": 1, "context": "It", "target": " a"}, {"id": 1, "context": "It", "target": " b"}], "the same id"),
        (["text"], "object"),
    ],
)
def test_what_is_not_an_item_is_refused_with_its_line(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_items(write(tmp_path / "bad.jsonl", *lines))


def test_results_name_their_examples_and_labels(lm: LanguageModel) -> None:
    shown = [[POOL[3], POOL[9]]]
    (found,) = tasks.last_word(lm, POOL[:1], shown, 1000, ignore)
    assert (found["id"], found["shots"], found["labels"]) == ("i0", ["i3", "i9"], [" yes", " yes"])
    assert dataclasses.asdict(POOL[0])["id"] == found["id"]
