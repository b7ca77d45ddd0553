"""A rank that does not come to a collective is named with it, within the timeout, and the last checkpoint stands."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from megalith.errors import ResourceError
from megalith.parallel import context
from megalith.parallel.flight import Collective
from megalith.training import launch, loop
from megalith.training.hangs import Record, silent, verdict
from megalith.training.task import HANG, TrainTask, read_error
from tests.parallel.processes import start
from tests.training import forked, small

TIMEOUT = 10.0
HANGS_AT = 6
PATIENCE = 200  # a loaded machine


def hang(rank: int, task_json: str, how: str) -> None:
    """Train; the last rank hangs in its 6th step: as it begins, or before the exchange of ranks that share samples."""
    task = TrainTask.model_validate_json(task_json)
    world, in_exchange = forked.world_of(task.recipe), (task.recipe.parallel.context or 1) > 1
    right, exchange, step = loop.take_step, context._exchange, 0

    def hanging(run: Any, batch: Any) -> dict[str, Any]:
        nonlocal step
        step = batch.step
        if not in_exchange:
            end_here()
        return right(run, batch)

    def hanging_exchange(*arguments: Any) -> Any:
        end_here()
        return exchange(*arguments)

    def end_here() -> None:
        if rank == world - 1 and step == HANGS_AT:
            while not (task.checkpoints / "latest").is_file():
                time.sleep(0.01)  # a thread of this process still writes the checkpoint of step 4
            if how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                threading.Event().wait()

    loop.take_step = hanging  # type: ignore[assignment]  # in a process of its own
    context._exchange = hanging_exchange
    forked._train(rank, [task_json], None, False)


@pytest.mark.parametrize(
    ("layout", "how", "said"),
    [
        (
            {"data": 2},
            "stopped",
            r"rank 1 does not answer and has not come to the all_reduce \(all ranks, ranks 0, 1\)",
        ),
        ({"tensor": 2}, "deadlocked", r"rank 1 has not come to the \w+ \(all ranks, ranks 0, 1\)"),
        (
            {"pipeline": 2},
            "stopped",
            r"rank 1 does not answer and has not come to the \w+.* \((pipeline|all ranks), ranks 0, 1\)",
        ),
        (
            {"context": 2},
            "stopped",
            r"rank 1 does not answer and has not come to the all_to_all \(context, ranks 0, 1\)",
        ),
        ({"context": 2}, "deadlocked", r"rank 1 has not come to the all_to_all \(context, ranks 0, 1\)"),
    ],
    ids=str,
)
def test_a_rank_that_does_not_come_is_named_with_the_collective(
    tmp_path: Path, layout: dict[str, Any], how: str, said: str
) -> None:
    model = {"dropout": 0.0} if "context" in layout else None
    recipe = small.small_recipe(parallel=layout, model=model, timeout_seconds=TIMEOUT)
    task = forked.task_of(tmp_path / "run", recipe)
    ranks = start(forked.world_of(recipe), str(task.logs), hang, task.model_dump_json(), how)
    end = time.monotonic() + PATIENCE
    while not (task.logs / "error.json").is_file() and time.monotonic() < end:
        time.sleep(0.05)
    for process in ranks.processes:
        process.kill()
    error = read_error(task)
    assert isinstance(error, ResourceError)
    pattern = said + rf" in the phase \w+ of step {HANGS_AT} within {TIMEOUT:g} s"
    assert re.match(pattern, error.what), error.what
    if how == "deadlocked":
        assert "it is in wait (threading.py:" in error.what
    assert (task.checkpoints / "latest").read_text() == "step-00000004\n"


def test_the_command_ends_with_the_sentence_although_the_rank_is_stopped(tmp_path: Path) -> None:
    """The whole of it: three processes, of which one is stopped; the same command goes on."""
    command = f"""
from pathlib import Path
from tests.training import small
recipe = small.small_recipe(data=2, timeout_seconds={TIMEOUT})
print(small.run(Path({str(tmp_path)!r}), recipe).facts["resumed_at_step"])
"""
    process = subprocess.Popen([sys.executable, "-c", command], text=True, stderr=subprocess.PIPE)
    small.wait_until(lambda: small.steps_logged(tmp_path) >= 5, process)
    ranks = [child for child in psutil.Process(process.pid).children() if "megalith.training" in child.cmdline()]
    stopped = next(rank for rank in ranks if rank.environ()["RANK"] == "1")
    stopped.suspend()
    began = time.monotonic()
    told = process.communicate(timeout=PATIENCE)[1]
    assert time.monotonic() - began < TIMEOUT + launch.LEAVE_SECONDS + 30  # a loaded machine
    assert "rank 1 does not answer and has not come to" in told
    assert "killed (signal 9)" not in told
    assert not psutil.wait_procs(ranks, timeout=5)[1]
    done = subprocess.run([sys.executable, "-c", command], text=True, capture_output=True, check=True)
    assert int(done.stdout) >= 4


# verdicts


def record(rank: int, waits: Collective | None, *entered: Collective) -> Record:
    return Record(rank=rank, step=7, phase="norm", entered=entered, waits=waits, at="sleep (a.py:3)")


def collective(kind: str, axis: str, ranks: tuple[int, ...], number: int, since: float = 0.0) -> Collective:
    return Collective(kind, axis, ranks, number, since)


def test_of_many_the_one_that_is_in_no_collective_is_named_with_the_first_that_waits_for_it() -> None:
    late, first = (
        collective("all_reduce", "all ranks", (0, 1, 2, 3), 9, 2.0),
        collective("all_gather", "tensor", (2, 3), 5, 1.0),
    )
    records = {0: record(0, late, late), 1: record(1, late, late), 2: record(2, first, first), 3: record(3, None)}
    said = verdict(records, 4, 300).what
    assert said.startswith("rank 3 has not come to the all_gather (tensor, ranks 2, 3) in the phase norm of step 7")
    assert "it is in sleep (a.py:3)" in said
    gone = verdict({rank: records[rank] for rank in (0, 1, 2)}, 4, 300).what
    assert gone.startswith("rank 3 does not answer and has not come to the all_gather (tensor, ranks 2, 3)")


def test_ranks_that_wait_in_different_collectives_are_told_apart() -> None:
    whole, own = collective("all_reduce", "all ranks", (0, 1), 9), collective("all_gather", "tensor", (0, 1), 5)
    before = collective("all_reduce", "all ranks", (0, 1), 8)
    records = {0: record(0, whole, whole), 1: record(1, own, before, own)}
    said = str(verdict(records, 2, 300))
    assert said.startswith("rank 1 has not come to the all_reduce (all ranks, ranks 0, 1) in which rank 0 waits")
    assert "it waits in another, the all_gather (tensor, ranks 0, 1)" in said
    other = collective("reduce_scatter", "all ranks", (0, 1), 9)
    same = str(verdict({0: record(0, whole, whole), 1: record(1, other, other)}, 2, 300))
    assert "rank 1 has not come to the all_reduce" in same
    assert "the reduce_scatter (all ranks" in same


def test_who_gave_no_answer_is_lost(tmp_path: Path) -> None:
    task = forked.task_of(tmp_path / "run", small.small_recipe(2))
    assert silent(task, 2) == []
    (task.logs / HANG).mkdir()
    (task.logs / HANG / "alarm").touch()
    (task.logs / HANG / "rank-00000.json").write_text(record(0, None).model_dump_json())
    assert silent(task, 2) == [1]


def test_a_record_survives_its_file() -> None:
    own = record(1, collective("all_reduce", "tensor", (0, 1), 3))
    assert Record.model_validate_json(own.model_dump_json()) == own
    assert json.loads(own.model_dump_json())["waits"]["ranks"] == [0, 1]
