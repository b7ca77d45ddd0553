"""Shots are a pure function of the document and the plan; each part of the plan does what it says."""

import collections
import math
from dataclasses import replace
from typing import Any, Literal

import pytest

from megalith.errors import InputError
from megalith.evaluation.document import Choice, Document
from megalith.evaluation.shots import ShotPlan, ShotPool, choose_shots, with_shots

ANSWERS = (" True", " False")


def pair(at: int) -> Document:
    """One of three kinds, three documents to a group, two thirds of them true."""
    prompt = f"Premise {at}\nAnswer:"
    gold = int(at % 3 == 2)
    return Document(
        id=f"p{at}",
        prompt=prompt,
        choices=tuple(Choice(prompt, answer) for answer in ANSWERS),
        gold=gold,
        solved=prompt + ANSWERS[gold],
        solved_as=tuple(prompt + answer for answer in ANSWERS),
        label=("true", "false")[gold],
        group=f"g{at // 3}",
        fields={"kind": "abc"[at // 3 % 3]},
    )


POOL = [pair(at) for at in range(90)]


def places(plan: ShotPlan, asked: list[Document] = POOL) -> dict[str, list[int]]:
    pool = ShotPool(POOL)
    return {one.id: [shot.place for shot in choose_shots(one, pool, plan)] for one in asked}


def test_a_document_has_the_same_shots_in_any_subset_and_order_and_by_any_rank() -> None:
    plan = ShotPlan(count=4, seed=7)
    whole = places(plan)
    assert places(plan, POOL[70:3:-3]).items() <= whole.items()
    for world in (2, 4):
        parts = [places(plan, POOL[rank::world]) for rank in range(world)]
        assert dict(collections.ChainMap(*parts)) == whole
    assert [shot.place for shot in choose_shots(POOL[5], POOL, plan)] == whole["p5"]  # not indexed
    assert whole != places(replace(plan, seed=8))


def test_shots_are_different_and_never_of_the_document_s_own_group() -> None:
    for name, chosen in places(ShotPlan(count=60, seed=1)).items():
        own = int(name[1:]) // 3
        assert len(set(chosen)) == 60 and all(place // 3 != own for place in chosen)


def test_fewer_shots_are_the_first_of_more() -> None:
    few, many = places(ShotPlan(count=3, seed=2)), places(ShotPlan(count=9, seed=2))
    assert all(many[name][:3] == chosen for name, chosen in few.items())


def test_every_candidate_is_drawn_about_as_often() -> None:
    drawn = collections.Counter(
        place for seed in range(40) for one in places(ShotPlan(3, seed)).values() for place in one
    )
    mean = 40 * 3
    assert set(drawn) == set(range(90))
    assert max(abs(count - mean) for count in drawn.values()) < 5 * math.sqrt(mean)


def test_fixed_shots_are_the_same_for_all_but_their_own_group() -> None:
    chosen = places(ShotPlan(count=4, seed=3, fixed=True))
    usual = collections.Counter(map(tuple, chosen.values())).most_common(1)[0][0]
    groups = {place // 3 for place in usual}
    for name, own in chosen.items():
        if int(name[1:]) // 3 in groups:
            kept = [place for place in usual if place // 3 != int(name[1:]) // 3]
            assert own[: len(kept)] == kept and len(own) == 4
        else:
            assert tuple(own) == usual


def test_orders_are_of_the_same_shots() -> None:
    drawn = ShotPlan(count=6, seed=4)
    base = [shot.place for shot in choose_shots(POOL[0], POOL, drawn)]
    assert [s.place for s in choose_shots(POOL[0], POOL, replace(drawn, order="reversed"))] == base[::-1]
    assert [s.place for s in choose_shots(POOL[0], POOL, replace(drawn, order="rotated"))] == [base[-1], *base[:-1]]
    by_label = choose_shots(POOL[0], POOL, replace(drawn, order="by_label"))
    assert [shot.label for shot in by_label] == sorted(shot.label for shot in by_label)
    permuted = [[s.place for s in choose_shots(POOL[0], POOL, replace(drawn, order_seed=at))] for at in range(6)]
    assert all(sorted(one) == sorted(base) for one in (*permuted, [shot.place for shot in by_label]))
    assert len({tuple(one) for one in permuted}) > 3


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("balanced", {"true": 4, "false": 4}),
        ({"true": 0.25, "false": 0.75}, {"true": 2, "false": 6}),
        ({"false": 1.0}, {"false": 8}),
    ],
)
def test_labels_are_mixed_as_asked(labels: Any, expected: dict[str, int]) -> None:
    shots = choose_shots(POOL[0], POOL, ShotPlan(count=8, seed=5, labels=labels))
    assert collections.Counter(shot.label for shot in shots) == expected


def test_an_odd_shot_goes_to_either_class_and_classes_stand_in_no_order() -> None:
    pool = ShotPool(POOL)
    chosen = [choose_shots(one, pool, ShotPlan(count=3, seed=6, labels="balanced")) for one in POOL]
    extra = sum(sum(shot.label == "true" for shot in shots) == 2 for shots in chosen)
    assert 25 < extra < 65  # of 90, of which half are expected: four standard deviations
    assert 25 < sum(shots[0].label == "true" for shots in chosen) < 65


def test_wrong_labels_show_another_choice() -> None:
    plan = ShotPlan(count=8, seed=7)
    right = choose_shots(POOL[0], POOL, plan)
    half = choose_shots(POOL[0], POOL, replace(plan, wrong=0.5))
    assert [shot.place for shot in half] == [shot.place for shot in right]
    assert sum(shot.wrong for shot in half) == 4
    for shot in half:
        gold = POOL[shot.place].gold
        assert shot.text == POOL[shot.place].solved_as[1 - gold if shot.wrong else gold]
        assert shot.label == ("true", "false")[1 - gold if shot.wrong else gold]
    pool = ShotPool(POOL)
    assert sum(choose_shots(one, pool, ShotPlan(1, 8, wrong=0.3))[0].wrong for one in POOL) == pytest.approx(27, abs=18)


def test_the_source_of_shots_is_the_same_or_another_value_of_a_field() -> None:
    relations: tuple[Literal["same", "other"], ...] = ("same", "other")
    for relation in relations:
        for name, chosen in places(ShotPlan(count=5, seed=9, source=("kind", relation))).items():
            own = POOL[int(name[1:])].fields["kind"]
            assert all((POOL[place].fields["kind"] == own) == (relation == "same") for place in chosen)


def test_the_first_candidates_stand_in_the_pool_s_order() -> None:
    chosen = places(ShotPlan(count=3, first=True, source=("kind", "same")))
    assert chosen["p30"] == [3, 4, 5] and chosen["p3"] == [12, 13, 14]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (ShotPlan(count=88), "88 solved examples are wanted for p0, and the pool has 87"),
        (ShotPlan(count=30, labels={"false": 1.0}), "30 solved examples of class false"),
        (ShotPlan(count=2, labels={"maybe": 1.0}), "do not fit the classes of the solved examples .false, true."),
        (ShotPlan(count=2, labels={"true": 0.7}), "together they are 1"),
        (ShotPlan(count=2, source=("colour", "same")), "no field colour .they have kind"),
        (ShotPlan(count=2, wrong=1.5), "1.5 is not a share"),
    ],
)
def test_what_the_pool_cannot_give_is_refused_in_words(plan: ShotPlan, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_shots(POOL[0], POOL, plan)


def test_without_choices_there_are_no_wrong_labels_and_without_classes_no_mix() -> None:
    plain = [replace(one, choices=(), solved_as=(), label="") for one in POOL]
    with pytest.raises(InputError, match="no wrong answer"):
        choose_shots(plain[0], plain, ShotPlan(count=2, wrong=1.0))
    with pytest.raises(InputError, match="have no classes"):
        choose_shots(plain[0], plain, ShotPlan(count=2, labels="balanced"))


def test_shots_stand_before_the_prompt_and_before_every_context() -> None:
    shots = choose_shots(POOL[0], POOL, ShotPlan(count=2, first=True))
    shown = with_shots(POOL[0], shots)
    assert shown.prompt == "Premise 3\nAnswer: True\n\nPremise 4\nAnswer: True\n\nPremise 0\nAnswer:"
    assert {choice.context for choice in shown.choices} == {shown.prompt}
    partial = replace(POOL[0], choices=(Choice("Ann", " slept."), Choice("Bob", " slept.")), preamble="Do:\n\n")
    front = "Do:\n\nPremise 3\nAnswer: True\nPremise 4\nAnswer: True\n"
    assert [choice.context for choice in with_shots(partial, shots, "\n").choices] == [f"{front}Ann", f"{front}Bob"]
    assert with_shots(partial, ()).prompt == "Do:\n\nPremise 0\nAnswer:"
    assert with_shots(POOL[0], ()) is POOL[0]
