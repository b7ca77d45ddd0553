"""Lists that are not a schedule are refused, with rank, place and action; torch, asked the same, agrees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import RecipeError
from megalith.schedules import Lists, build, check, in_order, parse
from tests.schedules.lowering import lower


def lists(*rows: str) -> Lists:
    return tuple(tuple(parse(cell) for cell in row.split()) for row in rows)


GOOD = ("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1I1 1W1")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (GOOD[:1], "the number of lists is 1, and of pipeline ranks 2"),
        (("0F0 0F1 0B0", GOOD[1]), "rank 0: 0B1 is missing"),
        ((GOOD[0], "1F0 1B0 1F1 1I1"), "rank 1: 1W1 is missing"),
        ((GOOD[0], "1F0 1B0 1I1 1W1"), "rank 1: 1F1 is missing"),
        (("0F0 0F1 0B0 0F1 0B1", GOOD[1]), "rank 0, action 4 of 5, 0F1: this has been done before"),
        ((GOOD[0], GOOD[1] + " 1B1"), "rank 1, action 6 of 6, 1B1: this has been done before"),
        (("0F0 0F1 1F0 0B0 0B1", GOOD[1]), "action 3 of 5, 1F0: the stage is not on this rank. Rank 0 holds 0, 2."),
        (("0F0 0F2 0B0 0B1", GOOD[1]), "rank 0, action 2 of 4, 0F2: micro-batch 2 is not one of the step's"),
        (
            (GOOD[0], "1F1 1B1 1F0 1B0"),
            "rank 1, action 1 of 4, 1F1: the last stage's forwards are out of order.*0 is due",
        ),
    ],
)
def test_what_is_not_whole_is_refused(rows: tuple[str, ...], said: str) -> None:
    virtual_stages = 2 if "holds" in said else 1
    with pytest.raises(RecipeError, match=said) as refused:
        check(lists(*rows), 2, virtual_stages, 2, where="mine.csv")
    assert refused.value.where == "mine.csv"


def test_a_full_backward_and_a_split_one_may_be_mixed() -> None:
    check(lists(*GOOD), 2, 1, 2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"),
         "rank 0, action 2 of 4, 0B0, waits for 1B0, and rank 1, action 2 of 4, 1F1, waits before that"),
        (("0B0 0F0 0F1 0B1", GOOD[1]), "rank 0, action 1 of 4, 0B0, waits for 0F0, which comes later"),
        ((GOOD[0], "1F0 1B0 1F1 1W1 1I1"), "rank 1, action 4 of 5, 1W1, waits for 1I1, which comes later"),
    ],
)  # fmt: skip
def test_ranks_that_wait_for_each_other_are_named(rows: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check(lists(*rows), 2, 1, 2)


def test_lists_that_were_not_checked_may_wait_for_what_is_in_none() -> None:
    with pytest.raises(RecipeError, match="0B0, waits for 1I0, which is in no list"):
        list(in_order(lists("0F0 0B0", "1F0")))


@settings(deadline=None)
@given(
    st.sampled_from([("gpipe", 3, 1, 3), ("1f1b", 3, 1, 4), ("zb-h1", 3, 1, 4), ("interleaved-1f1b", 2, 2, 4)]),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15), st.integers(0, 15)), max_size=3),
)
def test_torch_refuses_and_takes_the_same_reordered_lists(
    which: tuple[str, int, int, int], swaps: list[tuple[int, int, int]]
) -> None:
    name, pipeline, virtual_stages, micro_batches = which
    rows = [list(actions) for actions in build(name, pipeline, virtual_stages, micro_batches)]
    for rank, one, other in swaps:
        row = rows[rank % pipeline]
        one, other = one % len(row), other % len(row)
        row[one], row[other] = row[other], row[one]
    assert _takes(rows, pipeline, virtual_stages, micro_batches) == _torch_takes(
        rows, pipeline, virtual_stages, micro_batches
    )


def _takes(rows: object, pipeline: int, virtual_stages: int, micro_batches: int) -> bool:
    try:
        check(rows, pipeline, virtual_stages, micro_batches)  # type: ignore[arg-type]  # lists of lists
    except RecipeError as error:
        return "out of order" in str(error) and not _waits(rows)
    return True


def _waits(rows: object) -> bool:
    try:
        list(in_order(rows))  # type: ignore[arg-type]  # lists of lists
    except RecipeError:
        return True
    return False


def _torch_takes(rows: object, pipeline: int, virtual_stages: int, micro_batches: int) -> bool:
    try:
        lower(rows, pipeline, virtual_stages, micro_batches)  # type: ignore[arg-type]  # lists of lists
    except (AssertionError, ValueError):
        return False
    return True
