"""A step as blocks: the schedule's actions, what is sent, what follows the last backward, and what is held."""

from itertools import pairwise

import pytest

from megalith.planning.timeline import Held, Kind, Step, Timing
from megalith.planning.timeline.step import Block
from megalith.schedules import NAMES, Action, Op, build, in_flight
from tests.planning.timeline.steps import step


def any_step(name: str) -> Step:
    return step(name, virtual=2 if name == "interleaved-1f1b" else 1, after=(2.0, 1.0))


def told(blocks: tuple[Block, ...]) -> list[tuple[str, str, float, float]]:
    return [(block.kind.value, str(block.action or ""), block.start_seconds, block.end_seconds) for block in blocks]


def test_a_step_of_two_ranks_by_hand() -> None:
    made = step("1f1b", 2, 1, 1, send=0.25, after=(2.0, 1.0))
    assert told(made.work[0]) == [
        ("forward", "0F0", 0.0, 1.0),
        ("backward", "0B0", 4.5, 6.5),  # 1F0 from 1.25, 1B0 from 2.25 to 4.25, and its message
        ("data-parallel reduction", "", 6.5, 8.5),
        ("optimizer", "", 8.5, 9.5),
    ]
    assert told(made.work[1]) == [
        ("forward", "1F0", 1.25, 2.25),
        ("backward", "1B0", 2.25, 4.25),
        ("data-parallel reduction", "", 4.25, 6.25),
        ("optimizer", "", 8.5, 9.5),  # the norm waits for the slower rank
    ]
    assert [told(blocks) for blocks in made.sends] == [[("send", "0F0", 1.0, 1.25)], [("send", "1B0", 4.25, 4.5)]]
    assert made.step_seconds == 9.5
    assert made.bubble_fractions == pytest.approx((3.5 / 9.5, 3.5 / 9.5))


@pytest.mark.parametrize("name", NAMES)
def test_each_rank_does_one_thing_at_a_time_in_the_order_of_its_list(name: str) -> None:
    made = any_step(name)
    for blocks, actions in zip(made.work, made.lists, strict=True):
        assert [block.action for block in blocks] == [*actions, None, None]
        for before, after in pairwise(blocks):
            assert before.end_seconds <= after.start_seconds
        work = len(actions) / (2 if Op.BACKWARD in {action.op for action in actions} else 3) * 3.0 + 3.0
        assert sum(block.end_seconds - block.start_seconds for block in blocks) == pytest.approx(work)


@pytest.mark.parametrize("name", NAMES)
def test_every_message_is_sent_once_and_read_after_it_has_come(name: str) -> None:
    made = any_step(name)
    last = made.stages - 1
    sent = {block.action: block.end_seconds for blocks in made.sends for block in blocks}
    assert len(sent) == sum(map(len, made.sends)) == 2 * last * 6
    for blocks in made.work:
        for block in blocks:
            if block.action is None or block.action.op is Op.WEIGHT_GRADIENT:
                continue
            stage, op, number = block.action
            if op is Op.FORWARD and stage > 0:
                assert sent[Action(stage - 1, op, number)] <= block.start_seconds + 1e-12
            if op is not Op.FORWARD and stage < last:
                assert sent[Action(stage + 1, op, number)] <= block.start_seconds + 1e-12


def test_what_stays_on_one_rank_is_not_sent() -> None:
    assert step("interleaved-1f1b", 1, 3, 2).sends == ((),)


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_holds_at_its_peak_what_the_schedule_has_in_flight(name: str) -> None:
    made = any_step(name)
    virtual = made.stages // 3
    assert made.peaks == pytest.approx([count / virtual for count in in_flight(made.lists)])
    held = Held([100.0, 200.0, 300.0], [7.0 + stage for stage in range(made.stages)])
    weighed = Step(name, made.lists, made.timing, held)
    if virtual == 1:
        expected = [100.0 * (rank + 1) + count * (7 + rank) for rank, count in enumerate(in_flight(made.lists))]
        assert weighed.peaks == pytest.approx(expected)
    for rank, points in enumerate(weighed.memory):
        assert points[0][1] == points[-1][1] == pytest.approx(held.resident_bytes[rank])
        assert points[-1][0] == weighed.step_seconds
        assert [seconds for seconds, _ in points] == sorted(seconds for seconds, _ in points)


def test_virtual_stages_hold_what_each_of_them_holds() -> None:
    lists = step("interleaved-1f1b", 2, 2, 2).lists
    made = Step(
        "interleaved-1f1b", lists, step("interleaved-1f1b", 2, 2, 2).timing, Held([0.0, 0.0], [1, 10, 100, 1000])
    )
    assert made.peaks == (2 * 1 + 2 * 100, 2 * 10 + 1000)  # rank 1 begins to go back before its last forward


@pytest.mark.parametrize("name", NAMES)
def test_without_what_follows_the_bubble_is_the_simulators(name: str) -> None:
    made = step(name, virtual=2 if name == "interleaved-1f1b" else 1)
    assert made.bubble_fractions == pytest.approx(made.pipeline.bubble_fractions)
    assert made.bubble_fraction == pytest.approx(sum(made.bubble_fractions) / 3)
    assert {block.kind for blocks in made.work for block in blocks} & {Kind.REDUCTION, Kind.OPTIMIZER} == set()


def test_a_micro_batch_is_held_from_its_forward_to_the_end_of_its_weight_gradient() -> None:
    made = step("zb-h1", 2, 1, 1, send=0.0, held=Held([10.0, 20.0], [1.0, 2.0]))
    assert told(made.work[0]) == [
        ("forward", "0F0", 0.0, 1.0),
        ("input gradient", "0I0", 3.5, 5.0),
        ("weight gradient", "0W0", 5.0, 5.5),
    ]
    assert made.memory == (
        ((0.0, 10.0), (0.0, 11.0), (5.5, 10.0), (5.5, 10.0)),
        ((0.0, 20.0), (1.0, 22.0), (4.0, 20.0), (5.5, 20.0)),
    )


def test_each_boundary_has_its_own_time() -> None:
    timing = Timing([{Op.FORWARD: 1.0, Op.BACKWARD: 1.0}] * 3, [0.1, 0.2])
    made = Step("gpipe", build("gpipe", 3, 1, 1), timing, None)
    sent = {str(block.action): block.end_seconds - block.start_seconds for blocks in made.sends for block in blocks}
    assert sent == pytest.approx({"0F0": 0.1, "1F0": 0.2, "2B0": 0.2, "1B0": 0.1})


def test_what_a_backward_needs_is_there_until_its_weight_gradient() -> None:
    held = Held([10.0, 20.0], [1.0, 2.0], [0.25, 0.5])
    whole, cut = (step(name, 2, 1, 1, send=0.0, held=held) for name in ("1f1b", "zb-h1"))
    assert whole.memory[1] == ((0.0, 20.0), (1.0, 22.0), (2.0, 22.5), (4.0, 20.0), (6.0, 20.0))
    assert cut.memory[0] == ((0.0, 10.0), (0.0, 11.0), (3.5, 11.25), (5.5, 10.0), (5.5, 10.0))
    late = step("zb-h1", 4, 1, 8, send=0.0, held=Held([0.0] * 4, [0.0] * 4, [1.0] * 4))
    assert late.peaks == (1, 2, 3, 4)  # rank r is r weight gradients behind
