import random
import re

import pytest

from megalith.curation.steps.task_items import CHOICES, ITEMS_PER_DOCUMENT, cut_items
from megalith.recipe import TaskItemsConfig

NOUNS = ["river", "mountain", "village", "captain", "garden", "letter", "window", "winter", "machine", "bridge"]
VERBS = ["crossed", "followed", "remembered", "watched", "carried", "described", "visited", "measured"]


def _sentence(draws: random.Random) -> str:
    first, second, third = (draws.choice(NOUNS) for _ in range(3))
    name = "".join(draws.choices("abcdefghijklmnop", k=7))
    return f"The {first} {draws.choice(VERBS)} the {second} before {name} had thought about the old {third}."


def _documents(count: int, seed: int = 1) -> list[tuple[str, str]]:
    draws = random.Random(seed)
    return [
        (
            f"{number:04x}",
            "\n\n".join(
                [
                    "get(name, default=None)",
                    *(" ".join(_sentence(draws) for _ in range(12)) for _ in range(3)),
                    "x = 1; y[2] = {3}",
                ]
            ),
        )
        for number in range(count)
    ]


def test_every_item_stands_so_in_its_document() -> None:
    documents = _documents(12)
    texts = dict(documents)
    last_words, continuations = cut_items(documents, TaskItemsConfig(most=200), seed=1)
    assert last_words and continuations
    for item in last_words:
        assert item.context + item.target in texts[item.document]
        assert re.fullmatch(r" [A-Za-z]{4,}", item.target)
        assert item.target.strip().lower() in re.findall(r"\w+", item.context.lower())
        assert 40 <= len((item.context + item.target).split()) <= 120
    for question in continuations:
        assert question.context + question.choices[question.answer] in texts[question.document]
        assert len(set(question.choices)) == CHOICES
        for place, choice in enumerate(question.choices):
            assert choice.startswith(" ") and len(choice.split()) == 12
            if place != question.answer:
                assert choice not in texts[question.document]
                assert any(choice in text for text in texts.values())


def test_code_and_symbols_are_no_passages() -> None:
    draws = random.Random(2)
    code = "\n".join(
        f"{draws.choice(NOUNS)}({draws.choice(NOUNS)}, {draws.random()}) -> [{number}]" for number in range(300)
    )
    table = "\n\n".join(" ".join(f"{draws.random():.3f}" for _ in range(80)) for _ in range(5))
    assert cut_items([("a", code), ("b", table)], TaskItemsConfig(most=50), seed=1) == ([], [])
    for item in cut_items(_documents(5), TaskItemsConfig(most=50), seed=1)[0]:
        assert "(" not in item.context and "=" not in item.context


def test_items_depend_on_the_documents_and_the_seed_alone() -> None:
    documents = _documents(10)
    items = cut_items(documents, TaskItemsConfig(most=20), seed=1)
    assert cut_items(list(reversed(documents)), TaskItemsConfig(most=20), seed=1) == items
    assert cut_items(documents, TaskItemsConfig(most=20), seed=2) != items


def test_answers_stand_in_every_place() -> None:
    _, continuations = cut_items(_documents(30), TaskItemsConfig(most=200), seed=1)
    assert {item.answer for item in continuations} == set(range(CHOICES))


@pytest.mark.parametrize("limit", [0, 5])
def test_no_more_items_than_asked(limit: int) -> None:
    last_words, continuations = cut_items(_documents(10), TaskItemsConfig(most=limit), seed=1)
    assert len(last_words) == len(continuations) == limit


def test_a_long_document_gives_only_a_few() -> None:
    draws = random.Random(3)
    text = "\n\n".join(" ".join(_sentence(draws) for _ in range(12)) for _ in range(100))
    last_words, continuations = cut_items([("a", text)], TaskItemsConfig(most=200), seed=1)
    assert len(last_words) == len(continuations) == ITEMS_PER_DOCUMENT


def test_little_text_gives_none() -> None:
    assert cut_items([], TaskItemsConfig(most=10), seed=1) == ([], [])
    assert cut_items([("a", "Too short to ask about.")], TaskItemsConfig(most=10), seed=1) == ([], [])
    assert cut_items(_documents(1)[:1], TaskItemsConfig(most=10), seed=1)[0]


def test_no_two_items_ask_the_same() -> None:
    name, text = _documents(1)[0]
    once = cut_items([(name, text)], TaskItemsConfig(most=50), seed=1)
    twice = cut_items([(name, text), ("other", text)], TaskItemsConfig(most=50), seed=1)
    assert len(twice[0]) == len(once[0])


def test_the_recipe_says_how_long_items_are() -> None:
    config = TaskItemsConfig(most=200, passage_words=(10, 20), context_words=(15, 18), continuation_words=5)
    last_words, continuations = cut_items(_documents(10), config, seed=1)
    assert last_words
    assert all(10 <= len((item.context + item.target).split()) <= 20 for item in last_words)
    assert continuations
    for item in continuations:
        assert 15 <= len(item.context.split()) <= 18
        assert {len(choice.split()) for choice in item.choices} == {5}
