"""A step composed of given blocks against sums by hand, and the file in which a measured machine is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megalith import schedules
from megalith.arithmetic import parameters
from megalith.errors import InputError, RecipeError, UnsupportedError
from megalith.job import Job
from megalith.parallel import Mesh
from megalith.planning.measuring import block_times
from megalith.planning.measuring.block_settings import all_settings, settings_of
from megalith.planning.measuring.compose import predict_here
from megalith.planning.measuring.machine_file import Block, BlockTable, Message, Runner, read_table, write_table
from megalith.planning.measuring.measure import measure
from megalith.planning.measuring.shared_cores import play
from megalith.planning.measuring.verbs import jobs_of
from megalith.planning.performance.pipeline_timeline import simulate
from megalith.recipe import ModelConfig, ParallelConfig, load_recipe
from megalith.schedules import Op
from megalith.topology import Layout, local_cluster

MODEL = ModelConfig(num_layers=4, hidden_size=64, num_heads=4, sequence_length=32, vocab_size=512)
CORES = 2


def job(tensor: int = 1, pipeline: int = 1, data: int = 1, context: int = 1, **more: Any) -> Job:
    """Sixteen sequences in micro-batches of four."""
    figures: dict[str, Any] = {"micro_batch_size": 4, "global_batch_size": 16, "precision": "fp32", **more}
    cluster = local_cluster("a processor", CORES, 2**33)
    return Job(model=MODEL, cluster=cluster, layout=Layout(tensor, pipeline, data, context), **figures)


def table(*jobs: Job, slower: float = 1.0, **changed: Any) -> BlockTable:
    """A layer takes 2 + 4 ms, the embedding 1 + 1, the logits 3 + 5; `slower` for each other process at work."""
    blocks = [
        Block.model_validate(
            {
                **setting.__dict__,
                "forward": tuple(factor * (0.004 + 0.002 * depth) for depth in (1, 3)),
                "backward": tuple(factor * (0.006 + 0.004 * depth) for depth in (1, 3)),
                "update": (0.003, 0.005),
                "read": 0.0005,
                "embed": 0.001 * factor,
                "unembed": 0.001 * factor,
                "spread": 0.0,
            }
        )
        for one in jobs
        for setting in dict.fromkeys(all_settings(one, CORES))
        for factor in [slower ** (setting.processes - 1)]
    ]
    groups = {(2, 2), (2, 4), (4, 4)}
    messages = [
        Message(collective="all_reduce", group_size=group, processes=processes, bytes=size, seconds=seconds)
        for group, processes in groups
        for size, seconds in ((8, 0.0001), (2**20, 0.0101), (2**21, 0.0201))
    ] + [
        Message(collective="send", group_size=2, processes=processes, bytes=size, seconds=seconds)
        for processes in (2, 4)
        for size, seconds in ((8, 0.0), (2**20, 0.0))
    ]
    return BlockTable.model_validate(
        {
            "machine": {"cpu": "a processor", "cores": CORES},
            "model": MODEL.model_copy(update={"num_layers": 1}),
            "depths": (1, 3),
            "blocks": blocks,
            "messages": messages,
            "runners": [Runner(pipeline=2, processes=n, seconds=0.0) for n in (2, 4)],
            **changed,
        }
    )


def test_one_process_takes_its_micro_batches_one_after_another() -> None:
    step = predict_here(job(), table(job()))
    assert step.parts["forward"] == pytest.approx(4 * (0.004 + 4 * 0.002))
    assert step.parts["backward"] == pytest.approx(4 * (0.006 + 4 * 0.004))
    assert step.parts["updating"] == pytest.approx(0.003 + 3 * 0.001)
    assert step.parts["reading"] == pytest.approx(4 * 0.0005)
    assert step.seconds == pytest.approx(sum(step.parts.values())) == pytest.approx(0.048 + 0.088 + 0.006 + 0.002)
    assert step.interval[0] < step.seconds < step.interval[1]


def test_data_parallel_ranks_share_the_batch_and_reduce_all_gradients_once() -> None:
    step = predict_here(job(data=2), table(job(data=2)))
    assert step.parts["forward"] == pytest.approx(2 * 0.012)
    sent = parameters(MODEL).total * 4
    assert 8 < sent < 2**20
    assert step.parts["reducing"] == pytest.approx(0.0001 + 0.01 * (sent - 8) / (2**20 - 8))
    assert step.parts["agreeing"] == pytest.approx(2 * 0.0001)
    older = table(job(data=2)).model_copy(update={"schema_version": 1})  # whose updates lack the norm's sum
    assert predict_here(job(data=2), older).parts["agreeing"] == pytest.approx(3 * 0.0001)


def test_a_tensor_parallel_rank_reduces_its_own_part_of_the_gradients() -> None:
    """Matrices, their columns' biases and the vocabulary by halves; norms, the sums' biases and positions whole."""
    asked = job(tensor=2, data=2)
    step = predict_here(asked, table(asked))
    sent = 4 * (4 * ((12 * 64**2 + 7 * 64) // 2 + 6 * 64) + 2 * 64 + 512 * 64 // 2 + 32 * 64)
    assert step.parts["reducing"] == pytest.approx(0.0001 + 0.01 * (sent - 8) / (2**20 - 8))


def test_a_message_larger_than_any_measured_takes_in_proportion() -> None:
    small = table(job(data=2))
    few = [message for message in small.messages if message.bytes < 2**20]
    step = predict_here(job(data=2), small.model_copy(update={"messages": few}))
    assert step.parts["reducing"] == pytest.approx(0.0001 * parameters(MODEL).total * 4 / 8)


def test_a_pipeline_of_uneven_stages_takes_what_its_own_lists_say() -> None:
    """Stages of two layers, with the embedding and with the logits, by hand; a core for each."""
    asked = job(pipeline=2)
    step = predict_here(asked, table(asked))
    first = {Op.FORWARD: 2 * 0.002 + 0.001, Op.BACKWARD: 2 * 0.004 + 0.001}
    last = {Op.FORWARD: 2 * 0.002 + 0.003, Op.BACKWARD: 2 * 0.004 + 0.005}
    timeline = simulate(schedules.build("1f1b", 2, 1, 4), [first, last])
    shown = step.parts["stages"] + step.parts["waiting for other stages"]
    assert shown == pytest.approx(timeline.step_seconds)
    assert step.parts["stages"] == pytest.approx(max(timeline.busy_seconds))
    assert step.parts["embedding at both ends"] > 0


def test_a_stage_that_waits_leaves_its_core_to_the_others() -> None:
    """Twice as slow for each other process: both at work do in any time what one alone does."""
    asked = job(pipeline=2, zero=0)
    step = predict_here(asked, table(asked, slower=2.0))
    alone = 4 * (4 * 0.006 + 0.002 + 0.008)  # all work of the step, one after another
    assert step.parts["stages"] + step.parts["waiting for other stages"] == pytest.approx(alone)


@pytest.mark.parametrize(
    ("name", "pipeline", "virtual"), [("1f1b", 4, 1), ("gpipe", 2, 1), ("interleaved-1f1b", 2, 2), ("zb-h1", 4, 1)]
)
def test_with_a_core_for_each_rank_it_is_the_simulation_of_the_schedule(name: str, pipeline: int, virtual: int) -> None:
    lists = schedules.build(name, pipeline, virtual, 8)
    seconds = [{Op.FORWARD: 1.0 + 0.1 * stage, Op.INPUT_GRADIENT: 1.3, Op.WEIGHT_GRADIENT: 0.7 + 0.05 * stage}
               for stage in range(pipeline * virtual)]  # fmt: skip
    shared = play(lists, [{op: [each] * pipeline for op, each in one.items()} for one in seconds], 0.25)
    oracle = simulate(lists, seconds, 0.25)
    assert shared.step_seconds == pytest.approx(oracle.step_seconds)
    for own, expected in zip(shared.ranks, oracle.ranks, strict=True):
        assert [span.action for span in own] == [span.action for span in expected]
        assert [span.start_seconds for span in own] == pytest.approx([span.start_seconds for span in expected])


def test_one_core_for_all_ranks_does_all_their_work_and_no_more() -> None:
    lists = schedules.build("1f1b", 4, 1, 8)
    seconds = {Op.FORWARD: [0.1 * k for k in range(1, 5)], Op.BACKWARD: [0.2 * k for k in range(1, 5)]}
    assert play(lists, [seconds] * 4).step_seconds == pytest.approx(4 * 8 * 0.3)


def test_lists_that_wait_for_each_other_for_ever_are_refused() -> None:
    backward_first = ((schedules.parse("0B0"), schedules.parse("0F0")),)
    with pytest.raises(RecipeError, match="rank 0, action 1 of 2, 0B0, waits for 0F0, which comes later"):
        play(backward_first, [{Op.FORWARD: [1.0], Op.BACKWARD: [1.0]}])


def test_zero_1_reduces_with_the_last_micro_batch_alone() -> None:
    asked = job(data=2, zero=1)
    made = table(asked)
    slow = [block.model_copy(update={"forward": (1.0, 1.0)}) if block.zero else block for block in made.blocks]
    step = predict_here(asked, made.model_copy(update={"blocks": slow}))
    assert step.parts["forward"] == pytest.approx(0.012 + 1.0)
    assert "reducing" not in step.parts


def test_blocks_are_asked_for_as_the_layout_runs_them() -> None:
    one, both = settings_of(job(tensor=2, pipeline=2), CORES)
    assert (one.processes, both.processes) == (2, 4)
    assert {one.threads, both.threads} == {1}
    assert (one.tensor, one.data) == (2, 1)
    (sharded,) = settings_of(job(data=2, zero=3), CORES)
    assert (sharded.data, sharded.parallel.zero, sharded.parallel.data) == (2, 3, 2)
    (alone,) = settings_of(job(), CORES)
    assert alone.threads == CORES


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (job(pipeline=2, data=2, zero=3), "ZeRO within a pipeline"),
        (job(context=2), "context"),
        (replace(job(), model=MODEL.model_copy(update={"hidden_size": 128})), "hidden_size=64"),
        (job(micro_batch_size=2), "micro-batches of 2"),
        (job(tensor=2), "tensor=2"),
    ],
)
def test_what_was_not_measured_is_not_guessed(asked: Job, what: str) -> None:
    with pytest.raises(UnsupportedError, match=what):
        predict_here(asked, table(job()))


def test_a_deeper_model_of_the_same_width_is_predicted() -> None:
    deep = replace(job(), model=MODEL.model_copy(update={"num_layers": 40}))
    assert predict_here(deep, table(job())).parts["forward"] == pytest.approx(4 * (0.004 + 40 * 0.002))


def test_models_of_two_widths_are_not_measured_together() -> None:
    wide = replace(job(), model=MODEL.model_copy(update={"hidden_size": 128}))
    with pytest.raises(RecipeError, match="one width"):
        measure([job(), wide])


def test_the_file_holds_all_that_was_measured(tmp_path: Path) -> None:
    written = table(job(), job(pipeline=2))
    write_table(written, tmp_path / "new" / "here.json")
    assert read_table(tmp_path / "new" / "here.json") == written


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"{}", "machine"),
        (b'{"schema_version": 3}', "schema_version"),
    ],
)
def test_what_is_no_measured_machine_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "here.json").write_bytes(content)
    with pytest.raises(InputError, match=what):
        read_table(tmp_path / "here.json")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--measure"):
        read_table(tmp_path / "here.json")


def test_layouts_of_1_2_and_4_processes_are_measured() -> None:
    recipe, _ = load_recipe("quickstart", ["budget.flops=2e13"])
    jobs = list(jobs_of(recipe, MODEL))
    found = {(one.layout.tensor, one.layout.pipeline, one.layout.data, one.zero) for one in jobs}
    six = {(1, 1, 1, 0), (2, 1, 1, 0), (1, 2, 1, 0), (1, 1, 2, 0), (2, 2, 1, 0), (1, 1, 2, 3)}
    assert six <= found
    assert {one.layout.world for one in jobs} == {1, 2, 4}
    assert all(one.micro_batches >= one.layout.pipeline for one in jobs)


def test_a_worker_times_every_part_of_a_block() -> None:
    question = {
        "model": MODEL.model_copy(update={"num_layers": 1}).model_dump(mode="json"),
        "parallel": ParallelConfig(tensor=1, pipeline=1, data=1).model_dump(mode="json"),
        "precision": "bf16",
        "micro_batch_size": 2,
        "threads": 1,
        "seconds": 0.0,
    }
    times = block_times.time_block(question, Mesh())
    assert set(times) == {"forward", "backward", "update", "read", "embed", "unembed"}
    assert all(len(each) >= block_times.FEWEST and min(each) > 0 for each in times.values())


@pytest.mark.slow
def test_the_six_layouts_of_a_tiny_model_are_measured_and_composed() -> None:
    six = [job(), job(tensor=2), job(pipeline=2), job(data=2), job(2, 2), job(data=2, zero=3)]
    made = measure(six, seconds=0.02)
    for one in six:
        step = predict_here(one, made)
        assert 0 < step.interval[0] < step.seconds < step.interval[1] < 60
