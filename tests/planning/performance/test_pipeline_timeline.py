"""The simulator: against the zero-bubble paper's own figures, the closed forms, and a recursion without any order."""

import csv
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import RecipeError
from megalith.planning.performance.pipeline_timeline import Timeline, simulate
from megalith.schedules import Action, Lists, Op, build, parse

F, B, I, W = Op  # noqa: E741  # the papers' letters
COLUMNS = {"1f1b": "1F1B", "zb-h1": "ZB-H1", "zb-h2": "ZB-H2", "interleaved-1f1b": "1F1B-I"}
LAYERS = {"1.5B": 22, "6.2B": 30, "14.6B": 46, "28.3B": 62}  # 2401.10241, table 3


def bubbles(timeline: Timeline) -> list[float]:
    return list(timeline.bubble_fractions)


@pytest.mark.data
@pytest.mark.parametrize("name", ["1f1b", "zb-h1", "zb-h2", "interleaved-1f1b"])
def test_the_zero_bubble_papers_rates_from_its_profiled_times(name: str, data_directory: Path) -> None:
    """2401.10241, table 6 to table 5: 12 settings a schedule, equal in all four decimals.

    Interleaved, the paper's rate is lower by what exactly `pipeline` messages take, at most 0.0035: of the messages
    from the last rank round to the first, its evaluator waits for one in `pipeline`. We wait for all of them.
    """
    measurements = data_directory / "measurements"
    profiled = list(csv.DictReader((measurements / "zero_bubble_table6_profiled_ms.csv").open()))
    published = list(csv.DictReader((measurements / "zero_bubble_table5_bubble_rates.csv").open()))
    assert len(profiled) == len(published) == 12
    for times, rates in zip(profiled, published, strict=True):
        pipeline, micro_batches = int(times["p"]), int(times["m"])
        interleaved = name == "interleaved-1f1b"
        stages = (LAYERS[times["model"]] + 2) // pipeline if interleaved else 1
        each = {op: float(times[f"T_{letter}_ms"]) / stages for op, letter in ((F, "F"), (I, "B"), (W, "W"))}
        send = float(times["T_comm_ms"])
        timeline = simulate(build(name, pipeline, stages, micro_batches), each, send)
        cost, busy = timeline.longest_rank_seconds, stages * micro_batches * sum(each.values())
        paper = float(rates[COLUMNS[name]])
        assert 1 - busy / cost == pytest.approx(paper, abs=0.0035 + 5e-5 if interleaved else 5e-5)
        assert round(1 - busy / (cost - (pipeline * send if interleaved else 0)), 4) == paper


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(2, 4), st.integers(1, 12))
def test_with_equal_times_the_bubble_is_the_closed_form(pipeline: int, virtual_stages: int, size: int) -> None:
    for name in ("gpipe", "1f1b"):
        timeline = simulate(build(name, pipeline, 1, size), {F: 1.0, B: 1.0})
        assert bubbles(timeline) == pytest.approx([(pipeline - 1) / (size + pipeline - 1)] * pipeline)
    micro_batches = size * pipeline
    timeline = simulate(build("interleaved-1f1b", pipeline, virtual_stages, micro_batches), {F: 1.0, B: 1.0})
    rate = (pipeline - 1) / (virtual_stages * micro_batches + pipeline - 1)  # 2104.04473 §2.2, of the step
    assert bubbles(timeline) == pytest.approx([rate] * pipeline)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 12))
def test_zero_bubble_leaves_a_third_and_then_nothing_of_1f1bs_bubble(pipeline: int, more: int) -> None:
    """2401.10241, table 2, with F = I = W: (p − 1)(F + I − W) for ZB-H1, (p − 1)(F + I − 2W) for ZB-H2."""
    micro_batches = 2 * pipeline + more
    unit = {F: 1.0, I: 1.0, W: 1.0}
    one, h1, h2 = (
        simulate(build(name, pipeline, 1, micro_batches), unit).longest_rank_seconds - 3 * micro_batches
        for name in ("1f1b", "zb-h1", "zb-h2")
    )
    assert (one, h1, h2) == pytest.approx((3 * (pipeline - 1), pipeline - 1, 0))


times = st.floats(0.1, 3.0)


@settings(deadline=None)
@given(
    st.sampled_from([("gpipe", 4, 1, 5), ("1f1b", 4, 1, 6), ("zb-h1", 3, 1, 7), ("interleaved-1f1b", 2, 3, 4)]),
    st.data(),
)
def test_every_time_is_what_the_recursion_over_needs_says(
    which: tuple[str, int, int, int], data: st.DataObject
) -> None:
    _, pipeline, virtual_stages, _ = which
    lists, stages = build(*which), pipeline * virtual_stages
    seconds = [{op: data.draw(times) for op in Op} for _ in range(stages)]
    hops = [data.draw(times) for _ in range(stages - 1)]
    ends = recursion(lists, seconds, hops)
    timeline = simulate(lists, seconds, hops)
    for spans, actions in zip(timeline.ranks, lists, strict=True):
        assert tuple(span.action for span in spans) == actions
        for span in spans:
            assert span.end_seconds == pytest.approx(ends[span.action])
            assert span.end_seconds - span.start_seconds == pytest.approx(seconds[span.action.stage][span.action.op])
    assert timeline.step_seconds == pytest.approx(max(ends.values()))


def recursion(lists: Lists, seconds: list[dict[Op, float]], hops: list[float]) -> dict[Action, float]:
    """When each action ends: after the one before it on its rank, and after what it needs."""
    last, before = len(seconds) - 1, {}
    for actions in lists:
        before.update(zip(actions[1:], actions, strict=False))
    known = {action for actions in lists for action in actions}

    @cache
    def end(action: Action) -> float:
        stage, op, n = action
        needs = [end(before[action])] if action in before else [0.0]
        if op is F and stage > 0:
            needs.append(end(Action(stage - 1, F, n)) + hops[stage - 1])
        if op in (B, I) and stage < last:
            later = next(a for a in (Action(stage + 1, B, n), Action(stage + 1, I, n)) if a in known)
            needs.append(end(later) + hops[stage])
        return max(needs) + seconds[stage][op]

    return {action: end(action) for action in known}


def test_a_message_delays_its_reader_and_keeps_its_writer_free() -> None:
    timeline = simulate(build("gpipe", 2, 1, 2), {F: 1.0, B: 2.0}, send_seconds=0.5)
    starts = [[(str(span.action), span.start_seconds) for span in spans] for spans in timeline.ranks]
    assert starts == [
        [("0F0", 0.0), ("0F1", 1.0), ("0B0", 6.0), ("0B1", 8.0)],
        [("1F0", 1.5), ("1F1", 2.5), ("1B0", 3.5), ("1B1", 5.5)],
    ]
    assert (timeline.step_seconds, timeline.busy_seconds) == (10.0, (6.0, 6.0))
    assert (bubbles(timeline), timeline.longest_rank_seconds) == (pytest.approx([0.4, 0.4]), 10.0)


def test_stages_of_one_rank_send_nothing() -> None:
    timeline = simulate(build("interleaved-1f1b", 1, 3, 2), {F: 1.0, B: 1.0}, send_seconds=9.0)
    assert (timeline.step_seconds, bubbles(timeline)) == (12.0, [0.0])


def test_a_full_backward_is_both_gradients_unless_it_has_a_time_of_its_own() -> None:
    lists = build("1f1b", 1, 1, 1)
    assert simulate(lists, {F: 1.0, I: 2.0, W: 3.0}).step_seconds == 6.0
    assert simulate(lists, {F: 1.0, I: 2.0, W: 3.0, B: 4.5}).step_seconds == 5.5


def test_the_slowest_stage_sets_the_pace() -> None:
    slow = simulate(build("1f1b", 4, 1, 100), [{F: 1.0, B: 2.0}] * 3 + [{F: 1.5, B: 3.0}])
    assert slow.step_seconds == pytest.approx(100 * 4.5 + 3 * 3.0)
    assert slow.busy_seconds == pytest.approx((300.0, 300.0, 300.0, 450.0))


def test_lists_that_wait_for_each_other_are_refused() -> None:
    lists = tuple(tuple(map(parse, row.split())) for row in ("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"))
    with pytest.raises(RecipeError, match="rank 0, action 2 of 4, 0B0, waits for 1B0"):
        simulate(lists, {F: 1.0, B: 1.0})
