"""The named schedules: against lists written by hand, torch's own, and what the papers say they hold."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.pipelining import schedules as torch_schedules

from megalith.errors import RecipeError
from megalith.schedules import NAMES, Action, Lists, Op, build, check, in_flight, parse
from tests.schedules.lowering import bare, lower

SIZES = [(1, 1), (1, 3), (2, 1), (2, 8), (4, 2), (4, 4), (4, 12), (5, 7), (8, 24)]


def by_hand(*rows: str) -> Lists:
    return tuple(tuple(parse(cell) for cell in row.split()) for row in rows)


def torch_rows(row_of: Callable[[int], Sequence[Any]], pipeline: int) -> list[list[str]]:
    """Torch's rows without its idle steps and its gradient reductions."""
    return [
        [str(action) for action in row_of(rank) if action is not None and action.microbatch_index is not None]
        for rank in range(pipeline)
    ]


def rows(lists: Lists) -> list[list[str]]:
    return [[str(action) for action in actions] for actions in lists]


def any_schedule(name: str, pipeline: int, virtual_stages: int, size: int) -> tuple[Lists, int, int]:
    """The schedule with what it allows of these sizes: (lists, virtual stages, micro-batches)."""
    interleaved = name == "interleaved-1f1b"
    stages, micro_batches = (virtual_stages, size * pipeline) if interleaved else (1, size)
    return build(name, pipeline, stages, micro_batches), stages, micro_batches


sizes = given(st.sampled_from(NAMES), st.integers(1, 7), st.integers(2, 4), st.integers(1, 20))


def test_small_schedules_by_hand() -> None:
    assert build("gpipe", 2, 1, 2) == by_hand("0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1")
    assert build("1f1b", 3, 1, 4) == by_hand(
        "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3",
        "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3",
        "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3",
    )
    assert build("interleaved-1f1b", 2, 2, 4) == by_hand(
        "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
        "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3",
    )
    assert build("zb-h1", 3, 1, 4) == by_hand(
        "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3",
        "1F0 1F1 1I0 1F2 1I1 1W0 1F3 1I2 1W1 1I3 1W2 1W3",
        "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2W2 2W3",
    )


@pytest.mark.parametrize(("pipeline", "micro_batches"), SIZES)
def test_gpipe_is_torchs(pipeline: int, micro_batches: int) -> None:
    order = bare(torch_schedules.ScheduleGPipe, pipeline, 1, micro_batches)._get_pipeline_order()
    assert rows(build("gpipe", pipeline, 1, micro_batches)) == torch_rows(order.__getitem__, pipeline)


@pytest.mark.parametrize(("pipeline", "micro_batches"), [(2, 1), (2, 8), (4, 4), (4, 12), (5, 7), (8, 24)])
def test_1f1b_is_torchs(pipeline: int, micro_batches: int) -> None:
    """But for the last rank, whose micro-batches torch's drawing of the order counts from 1."""
    order = bare(torch_schedules.Schedule1F1B, pipeline, 1, micro_batches)._get_pipeline_order()
    theirs, ours = torch_rows(order.__getitem__, pipeline), rows(build("1f1b", pipeline, 1, micro_batches))
    assert ours[:-1] == theirs[:-1]


@pytest.mark.parametrize("virtual_stages", [2, 3])
@pytest.mark.parametrize(("pipeline", "micro_batches"), [(1, 3), (2, 2), (2, 8), (4, 4), (4, 12), (8, 24)])
def test_interleaved_1f1b_is_torchs(pipeline: int, virtual_stages: int, micro_batches: int) -> None:
    theirs = bare(torch_schedules.ScheduleInterleaved1F1B, pipeline, virtual_stages, micro_batches)
    ours = build("interleaved-1f1b", pipeline, virtual_stages, micro_batches)
    assert rows(ours) == torch_rows(theirs._calculate_single_rank_operations, pipeline)


@pytest.mark.parametrize(("pipeline", "micro_batches"), [size for size in SIZES if size[1] % size[0] == 0])
def test_zb_h1_is_torchs_interleaved_zero_bubble_with_one_stage(pipeline: int, micro_batches: int) -> None:
    theirs = bare(torch_schedules.ScheduleInterleavedZeroBubble, pipeline, 1, micro_batches)
    ours = build("zb-h1", pipeline, 1, micro_batches)
    assert rows(ours) == torch_rows(theirs._calculate_single_rank_operations, pipeline)


@settings(deadline=None)
@sizes
def test_every_schedule_is_whole_and_torch_lowers_it(name: str, pipeline: int, virtual_stages: int, size: int) -> None:
    lists, stages, micro_batches = any_schedule(name, pipeline, virtual_stages, size)
    check(lists, pipeline, stages, micro_batches)
    hops = 0 if pipeline == 1 else pipeline * stages - 1
    assert lower(lists, pipeline, stages, micro_batches) == 2 * hops * micro_batches


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(2, 5), st.integers(1, 30))
def test_what_each_rank_holds_is_what_the_papers_say(pipeline: int, virtual_stages: int, micro_batches: int) -> None:
    ranks = range(pipeline)
    assert in_flight(build("gpipe", pipeline, 1, micro_batches)) == (micro_batches,) * pipeline
    one_each = [min(micro_batches, pipeline - rank) for rank in ranks]
    assert list(in_flight(build("1f1b", pipeline, 1, micro_batches))) == one_each
    h1, h2 = (in_flight(build(name, pipeline, 1, micro_batches)) for name in ("zb-h1", "zb-h2"))
    assert h1 == (min(micro_batches, pipeline),) * pipeline
    assert h2 == (min(micro_batches, 2 * pipeline - 1),) * pipeline
    whole = micro_batches * pipeline
    interleaved = in_flight(build("interleaved-1f1b", pipeline, virtual_stages, whole))
    warm_up = [2 * (pipeline - rank - 1) + (virtual_stages - 1) * pipeline for rank in ranks]  # Megatron-LM's
    assert list(interleaved) == [min(ahead + 1, whole * virtual_stages) for ahead in warm_up]


def test_activations_are_held_until_the_weight_gradient() -> None:
    assert in_flight(by_hand("0F0 0I0 0F1 0I1 0W0 0W1", "1F0 1B0 1F1 1B1")) == (2, 1)


@pytest.mark.parametrize(
    ("name", "pipeline", "virtual_stages", "micro_batches", "where", "said"),
    [
        ("2f2b", 2, 1, 4, "parallel.schedule", "schedule '2f2b' is not known. Set one of gpipe, 1f1b"),
        ("1f1b", 2, 1, 0, "parallel", "0 micro-batches"),
        ("1f1b", 2, 2, 4, "parallel.virtual_stages", "one stage a rank, and not 2. Set 1, or .*interleaved-1f1b"),
        ("gpipe", 2, 2, 4, "parallel.virtual_stages", "one stage a rank"),
        ("zb-h1", 2, 2, 4, "parallel.virtual_stages", "one stage a rank"),
        ("interleaved-1f1b", 2, 1, 4, "parallel.virtual_stages", "cannot be interleaved. Set 2 or more, or"),
        ("interleaved-1f1b", 4, 2, 6, "parallel.schedule", "a multiple of parallel.pipeline=4 .* 4 or 8, or take"),
        ("interleaved-1f1b", 4, 2, 3, "parallel.schedule", "so that there are 4, or take"),
    ],
)
def test_what_cannot_be_is_refused_with_a_mend(
    name: str, pipeline: int, virtual_stages: int, micro_batches: int, where: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said) as refused:
        build(name, pipeline, virtual_stages, micro_batches)
    assert refused.value.where == where


@settings(deadline=None)
@given(st.integers(0, 10**9 - 1), st.sampled_from(Op), st.integers(0, 10**9 - 1))
def test_the_notation_is_torchs(stage: int, op: Op, micro_batch: int) -> None:
    action = Action(stage, op, micro_batch)
    assert parse(f" {action} ") == action
    assert tuple(torch_schedules._Action.from_str(str(action)))[:3] == (stage, op.value, micro_batch)
