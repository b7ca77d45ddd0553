"""The logs of a run: figures of each step, the time of its phases, traces."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from megalith.arithmetic import flops_per_token
from megalith.parallel import Mesh
from megalith.training.data import batches
from megalith.training.loop import take_step
from megalith.training.monitor import Timing, Yardsticks, compared, measured_steps, watch
from megalith.training.task import TrainTask
from tests.parallel.cells import sample_batch
from tests.training import forked
from tests.training.small import small_recipe
from tests.training.test_faults import run_of

PEAK = 1e11
STEP_PHASES = {"data", "forward_backward", "reduce", "norm", "optimizer", "publish"}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainTask:
    """The small run over two pipeline stages, of which the sixth step was trace_step."""
    recipe = small_recipe(parallel={"pipeline": 2}, trace_steps=(6,))
    made = forked.task_of(tmp_path_factory.mktemp("watched") / "run", recipe)
    made = made.model_copy(update={"peak_flops_per_second": PEAK, "predicted": {"step_seconds": 0.5}})
    forked.train([made])
    return made


def lines_of(task: TrainTask) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (task.logs / "metrics.jsonl").read_text().splitlines()]


def test_each_step_tells_speed_utilisation_and_how_far_the_plan_was_off(task: TrainTask) -> None:
    steps = [line for line in lines_of(task) if "seconds" in line]
    assert [line["step"] for line in steps] == list(range(1, 15))
    for line in steps:
        tokens = 64 if line["step"] <= 4 else 128
        assert line["tokens_in_step"] == tokens
        assert line["tokens_per_second"] == pytest.approx(tokens / line["seconds"])
        assert line["flops_per_second"] == pytest.approx(flops_per_token(task.recipe.model) * tokens / line["seconds"])
        assert line["mfu"] == pytest.approx(line["flops_per_second"] / PEAK)
        assert line["of_predicted"] == (pytest.approx(line["seconds"] / 0.5) if tokens == 128 else None)
        assert {"loss", "learning_rate", "gradient_norm"} <= set(line)


def test_the_phases_of_a_step_make_up_its_time(task: TrainTask) -> None:
    for line in lines_of(task):
        if "seconds" in line:
            assert set(line["phases"]) == STEP_PHASES
            assert 0.7 * line["seconds"] < sum(line["phases"].values()) <= line["seconds"]


def test_the_typical_step_leaves_out_the_first_those_of_a_ramp_and_those_that_were_traced(task: TrainTask) -> None:
    steps = {line["step"]: line for line in lines_of(task) if "seconds" in line}
    typical = [5, *range(7, 15)]
    assert [step for step, line in steps.items() if line["is_typical"]] == typical
    found = measured_steps(task.logs)
    assert found["step_seconds"] == sorted(steps[step]["seconds"] for step in typical)[4]
    assert found["seconds"] == pytest.approx(sum(line["seconds"] for line in steps.values()))
    assert set(found["phases"]) == STEP_PHASES | {"validation", "checkpoint"}
    waited = [line["phases"]["checkpoint"] for line in lines_of(task) if "checkpoint" in line.get("phases", {})]
    assert len(waited) == 4  # steps 4, 8, 12 and the last
    assert found["phases"]["checkpoint"] == pytest.approx(sum(waited))


def test_memory_is_that_of_all_ranks_now_and_then(task: TrainTask) -> None:
    told = [line for line in lines_of(task) if "memory_bytes" in line]
    assert [line["step"] for line in told] == [5, 10, 14]
    for line in told:
        assert 1e8 < line["most_memory_bytes_of_a_rank"] < line["memory_bytes"] < 4e9


def test_tensorboard_has_the_same_numbers(task: TrainTask) -> None:
    board = EventAccumulator(str(task.logs / "tensorboard"))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"loss", "gradient_norm", "mfu", "validation_loss", "memory_bytes", "phases/forward_backward"} <= tags
    losses = [line["loss"] for line in lines_of(task) if "loss" in line]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-6)


def test_a_traced_step_names_phases_and_the_actions_of_each_stage(task: TrainTask) -> None:
    names = {path.name for path in task.logs.glob("trace-*")}
    assert names == {"trace-step-6-rank-0.json", "trace-step-6-rank-1.json"}
    for stage in (0, 1):
        trace = json.loads((task.logs / f"trace-step-6-rank-{stage}.json").read_text())
        found = {event["name"] for event in trace["traceEvents"]}
        assert found >= STEP_PHASES
        assert {f"PP:{stage}F{number}" for number in range(4)} <= found
        assert {f"PP:{stage}B{number}" for number in range(4)} <= found
        assert any(name.startswith("aten::") for name in found)


def test_lines_of_steps_that_are_taken_again_go(tmp_path: Path) -> None:
    timing = Timing(tokens=10, is_full=True, seconds=2.0, phases={"data": 0.5}, is_traced=False)
    yardsticks = Yardsticks(1.0, None, {})
    for first, last in ((0, 3), (1, 2)):
        with watch(tmp_path, yardsticks, total_steps=3, step=first) as monitor:
            for step in range(first + 1, last + 1):
                monitor.step({"step": step, "loss": float(first)}, timing)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')  # as a kill leaves it
    with watch(tmp_path, yardsticks, total_steps=3, step=2):
        pass
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.0), (2, 1.0)]


def test_a_figure_is_compared_where_it_is_both_predicted_and_measured() -> None:
    predicted = {"step_seconds": 2.0, "memory_bytes": 0.0}
    found = compared(predicted, {"step_seconds": 3.0, "memory_bytes": 5.0})
    assert found == {"step_seconds": {"predicted": 2.0, "measured": 3.0, "measured_over_predicted": 1.5}}
    assert compared({}, {"step_seconds": 3.0}) == {}


class BertSamples:
    """Made up, of the right names."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def batch(self, first: int, count: int) -> dict[str, torch.Tensor]:
        return sample_batch(self.config, 0, first, count)


def test_a_step_of_a_bert_tells_both_losses_and_one_in_fp16_the_scale() -> None:
    recipe = small_recipe(model={"family": "bert", "dropout": 0.0, "sequence_length": 12}, precision="fp16")
    run = run_of(Mesh(), recipe)
    run.samples = BertSamples(recipe.model)
    record = take_step(run, next(batches(recipe.train, 12)))
    assert record["loss"] == pytest.approx(record["masked_token"] + record["sentence_order"])
    assert record["loss_scale"] == 256
