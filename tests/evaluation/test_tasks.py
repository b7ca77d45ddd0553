"""Tasks under planted models: the score that was built in comes out."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from megalith.errors import InputError
from megalith.evaluation.asking import Asked, Asker, lettered
from megalith.evaluation.document import Choice, Document
from megalith.evaluation.evaluate import select
from megalith.evaluation.prompts import choices, classes, generated, last_word
from megalith.evaluation.scoring import Result, Scoring, credit, judge
from megalith.evaluation.shots import ShotPlan
from megalith.evaluation.task import Task
from megalith.evaluation.tasks import TASKS
from megalith.inference import LanguageModel
from tests.inference.models import VOCAB_SIZE, plant

ALL_FORMS = ("continuation", "unconditional", "letter", "bits_per_byte")


def chained(lm: LanguageModel, *texts: str) -> LanguageModel:
    """A model that continues each of these texts as it stands."""
    table = torch.zeros(VOCAB_SIZE, VOCAB_SIZE)
    for text in texts:
        for before, after in itertools.pairwise(lm.tokenizer.encode(text)):
            table[before, after] = 20.0
    return plant(lm, table)


def uniform(lm: LanguageModel) -> LanguageModel:
    return plant(lm, torch.zeros(VOCAB_SIZE, VOCAB_SIZE))


def asked(*documents: Document, letters: bool = False) -> list[Asked]:
    return [Asked(one, one, (), 0, lettered(one) if letters else None) for one in documents]


def results(
    lm: LanguageModel, name: str, *documents: Document, forms: tuple[str, ...] = ("continuation",)
) -> list[Result]:
    return judge(Scoring(lm, 1000, forms=forms), TASKS[name], asked(*documents, letters="letter" in forms))


def test_a_last_word_counts_only_if_all_its_tokens_are_first_choices(lm: LanguageModel) -> None:
    model = chained(lm, "The baker laughed")
    documents = [last_word("The baker", " laughed", id="a"), last_word("The baker", " laughed Q", id="b")]
    right, half = results(model, "lambada", *documents)
    assert (right["greedy"], half["greedy"]) == (True, False)
    assert right["log_probability"] == pytest.approx(0.0, abs=1e-5)


def test_the_likeliest_choice_is_the_prediction(lm: LanguageModel) -> None:
    model = chained(lm, "The baker laughed", "The nurse was a woman")
    right, wrong = results(
        model,
        "piqa",
        choices("The baker", (" pilot", " laughed"), 1, id="a"),
        choices("The nurse was a", (" pilot", " woman"), 0, id="b"),
    )
    assert (right["accuracy"], right["predicted"], wrong["accuracy"], wrong["predicted"]) == (1.0, 1, 0.0, 1)
    assert right["margin"] > 0 > wrong["margin"] and right["tied"] == []


def test_each_way_of_comparing_has_its_denominator(lm: LanguageModel) -> None:
    """Under a uniform model a choice costs log V a token: " Q" is two in 2 bytes, " laughed" thrice is three in 24."""
    question = choices("The baker", (" Q", " laughed" * 3), 1, id="q")
    (found,) = results(uniform(lm), "piqa", question, forms=ALL_FORMS)
    assert (found["bytes"], found["tokens"], found["characters"]) == ([2, 24], [2, 3], [2, 24])
    assert found["log_probabilities"] == pytest.approx([-2 * math.log(VOCAB_SIZE), -3 * math.log(VOCAB_SIZE)])
    assert (found["accuracy"], found["accuracy_per_byte"], found["accuracy_per_character"]) == (0.0, 1.0, 1.0)
    assert found["accuracy_per_token"] == 0.5  # both cost log V a token
    (short,) = results(uniform(lm), "boolq", classes("Is it?", (" Q", " QQ"), 0, id="s"))
    assert (short["accuracy_per_character"], short["accuracy_per_byte"]) == (0.0, 0.0)  # 2 of 1 letter, 3 of 2 letters
    assert found["bits_per_byte"] == pytest.approx(3 * math.log2(VOCAB_SIZE) / 24)
    assert found["unconditional"] == pytest.approx(found["log_probabilities"])
    assert found["accuracy_unconditional"] == 0.5 and "accuracy_unconditional" in found["tied"]


def test_choices_with_contexts_of_their_own_are_compared_by_what_follows(lm: LanguageModel) -> None:
    """Partial scoring: the name stands in the context, and the rest of the sentence is scored."""
    model = chained(lm, " nurse laughed")
    pair = tuple(Choice(f"The{name}", " laughed") for name in (" baker", " nurse"))
    document = Document("w", "The", choices=pair, gold=1, stem="The _ laughed", options=("baker", "nurse"))
    (found,) = results(model, "winogrande", document, forms=ALL_FORMS)
    assert (found["predicted"], found["accuracy"]) == (1, 1.0)
    assert "unconditional" not in found and len(found["letters"]) == 2


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
    assert credit(scores, answer) == pytest.approx(expected)


def test_a_model_that_finds_all_choices_alike_scores_chance_exactly_and_ties(lm: LanguageModel) -> None:
    documents = [choices("It is", (" Q", " Z", " X", " J"), at % 4, id=str(at)) for at in range(8)]
    found = results(uniform(lm), "arc_easy", *documents)
    assert sum(result["accuracy"] for result in found) / 8 == 0.25
    assert all("accuracy" in result["tied"] for result in found)


def test_generated_answers_must_be_whole_and_end_the_line(lm: LanguageModel) -> None:
    question = generated("Q: What is 12 plus 30?\nA:", ("42",), id="sum")
    right = chained(lm, "A: 42\n")
    too_long = chained(lm, "A: 420", "0\n")
    assert results(right, "arithmetic", question)[0]["correct"]
    found = results(too_long, "arithmetic", question)[0]
    assert (found["generated"].strip(), found["correct"]) == ("420", False)


def test_the_letter_form_lists_the_options() -> None:
    form = lettered(classes("Passage.\nQuestion: is it?\nAnswer:", (" no", " yes"), 1, id="b"))
    assert form is not None
    assert form.prompt == "Passage.\nQuestion: is it?\nA. no\nB. yes\nAnswer:"
    assert [choice.continuation for choice in form.choices] == [" A", " B"]
    assert (form.solved, form.gold, form.label, form.id) == (f"{form.prompt} B", 1, "yes", "b")
    assert lettered(form) is None


def test_a_task_whose_answers_are_letters_is_its_own_letter_form(lm: LanguageModel) -> None:
    native = choices("Why?\nA. x\nB. y\nAnswer:", (" A", " B"), 1, id="m")
    one = Asker(lm, [], ShotPlan(), separator="\n\n", too_long="left", letters=True).ask(native)
    (found,) = judge(Scoring(lm, 1000, forms=("letter",)), TASKS["mmlu"], [one])
    assert len(found["letters"]) == 2 and found["accuracy_letter"] in (0.0, 0.5, 1.0)
    many = choices("Which?", [f" {at}" for at in range(27)], 0, id="many")
    with pytest.raises(InputError, match="many: 27 choices are more than there are letters"):
        lettered(many)


POOL = [
    classes(f"Question {at}\nAnswer:", (" no", " yes"), at % 2, id=f"i{at}", group=f"d{at // 3}") for at in range(30)
]


def asker(lm: LanguageModel, plan: ShotPlan, **more: Any) -> Asker:
    settings: dict[str, Any] = {"separator": "\n\n", "too_long": "drop_shots", "letters": False} | more
    return Asker(lm, POOL, plan, **settings)


def test_both_forms_of_a_question_show_the_same_examples(lm: LanguageModel) -> None:
    wide = replace(lm, config=lm.config.model_copy(update={"sequence_length": 4096}))
    one = asker(wide, ShotPlan(count=3, seed=1, wrong=0.34, labels="balanced"), letters=True).ask(POOL[0])
    assert one.letter is not None
    for shot in one.shots:
        gold = 1 - POOL[shot.place].gold if shot.wrong else POOL[shot.place].gold
        assert f"Question {shot.place}\nA. no\nB. yes\nAnswer: {'AB'[gold]}\n\n" in one.letter.prompt


def test_whole_examples_are_left_out_of_a_prompt_that_is_too_long(lm: LanguageModel) -> None:
    assert lm.config.sequence_length == 32
    plan = ShotPlan(count=8, seed=1)
    one = asker(lm, plan).ask(POOL[0])
    assert 0 < len(one.shots) < 8 and one.dropped == 8 - len(one.shots)
    assert one.shots == asker(lm, plan).shots(POOL[0])[one.dropped :]
    text = one.shown.prompt + " yes"
    assert len(lm.tokenizer.encode(text)) <= 32 < len(lm.tokenizer.encode("Question 11\nAnswer: yes\n\n" + text))
    (found,) = judge(Scoring(lm, 1000), TASKS["boolq"], [one])
    assert (found["truncated"], found["dropped_shots"]) == (False, one.dropped)
    cut = asker(lm, plan, too_long="left").ask(POOL[0])
    assert len(cut.shots) == 8 and judge(Scoring(lm, 1000), TASKS["boolq"], [cut])[0]["truncated"]
    with pytest.raises(InputError, match=r"the prompt of i0 has .* tokens, and the model reads 32"):
        asker(lm, plan, too_long="error").ask(POOL[0])


def test_results_name_their_examples_and_labels(lm: LanguageModel) -> None:
    one = asker(lm, ShotPlan(count=2, seed=1, wrong=0.5), too_long="left").ask(POOL[0])
    (found,) = judge(Scoring(lm, 1000), TASKS["boolq"], [one])
    assert found["shots"] == [shot.place for shot in one.shots] and len(found["wrong"]) == 1
    assert found["shot_labels"] == [shot.label for shot in one.shots]
    assert (found["id"], found["group"], found["prompt"]) == ("i0", "d0", one.shown.prompt)


def test_a_selection_does_not_depend_on_the_order_of_the_file() -> None:
    chosen = select(POOL, 10, seed=1)
    assert len(chosen) == 10 and chosen != POOL[:10]
    assert {one.id for one in chosen} == {one.id for one in select(POOL[::-1], 10, seed=1)}
    assert select(POOL, 100, seed=1) == select(POOL, None, seed=1) == POOL


@pytest.mark.parametrize("name", ["arithmetic", "arithmetic_gpt3", "unscrambling"])
def test_what_is_made_on_the_spot_is_different_and_right(name: str) -> None:
    documents = TASKS[name].read(None, seed=3)
    assert len({one.id for one in documents}) == len(documents) == {"arithmetic": 250}.get(name, 500)
    assert documents == TASKS[name].read(None, seed=3) != TASKS[name].read(None, seed=4)
    for one in documents:
        (answer,) = one.answers
        if name == "unscrambling":
            letters = one.prompt.removesuffix(" =")
            assert sorted(filter(str.isalpha, letters)) == sorted(answer) and letters != answer
        else:
            sum_ = one.prompt.removeprefix("Q: What is ").removesuffix("?\nA:")
            for word, sign in {"plus": "+", "minus": "-", "times": "*"}.items():
                sum_ = sum_.replace(word, sign)
            assert answer == str(eval(sum_))


def test_every_task_has_a_name_a_source_and_prompts() -> None:
    for name, one in TASKS.items():
        assert isinstance(one, Task) and one.name == name
        assert one.about and one.paper and one.licence and one.prompts
        assert one.files or one.make is not None
