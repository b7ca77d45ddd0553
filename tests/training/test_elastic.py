"""Ranks are lost, and the run goes on with those that are left, in the planner's layout, with the same losses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from megalith.errors import UnsupportedError
from megalith.planning.search.fewer import _left, best_with
from megalith.recipe import Recipe
from megalith.topology import describe, layout_of
from megalith.training import elastic, launch
from tests.training import forked, small

COMMAND = """
import json, sys
from pathlib import Path
from tests.training import small, test_elastic
from megalith.planning.search.fewer import best_with
made = small.run(Path(sys.argv[1]), test_elastic.recipe_of(tensor=2, data=2), relayout=best_with)
print(json.dumps(made.facts["parallel"]))
"""


def recipe_of(elastic: int | None = 1, **parallel: Any) -> Recipe:
    train: dict[str, Any] = {"batch_ramp": None, "tokens": 8 * 16 * 40, "elastic": elastic}
    return small.small_recipe(parallel=parallel, model={"dropout": 0.0}, **train)


def test_a_run_that_loses_a_rank_goes_on_with_fewer_and_its_losses_are_the_same(tmp_path: Path) -> None:
    lossy = tmp_path / "lossy"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(lossy)], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    small.wait_until(lambda: small.steps_logged(lossy) >= 6, process)
    ranks = [child for child in psutil.Process(process.pid).children() if "megalith.training" in child.cmdline()]
    next(rank for rank in ranks if rank.environ()["RANK"] == "3").kill()
    out, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "rank 3 was killed (signal 9)" in told
    used = json.loads(out)
    assert used["tensor"] * used["pipeline"] * used["data"] == 2, "3 ranks cannot share 8 sequences and 2 heads"
    history = json.loads((lossy / "train" / "history.json").read_text())
    (event,) = history["events"]
    assert (event["event"], event["ranks"]) == ("ranks lost", [3])
    assert event["step"] >= 4
    with small.in_this_process():
        whole = small.run(tmp_path / "whole", recipe_of())
    wanted = json.loads((whole.path / "history.json").read_text())
    assert [step["tokens"] for step in history["steps"]] == [step["tokens"] for step in wanted["steps"]]
    for got, want in zip(history["steps"], wanted["steps"], strict=True):
        assert got["loss"] == pytest.approx(want["loss"], rel=2e-5), got["step"]  # fp32, of sums in another order


class Lossy:
    """A launcher that loses ranks."""

    def __init__(self, *lost: tuple[int, ...]) -> None:
        self.lost, self.started = list(lost), []  # type: ignore[var-annotated]

    def __call__(self, task: Any, processes: int) -> None:
        self.started.append(processes)
        if self.lost:
            raise launch.LostRanksError("rank 1 was killed.", ranks=self.lost.pop(0))


def test_it_ends_when_too_few_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = forked.task_of(tmp_path / "run", recipe_of(elastic=2, data=4))
    monkeypatch.setattr(launch, "start", lossy := Lossy((1,), (0,)))
    with pytest.raises(launch.LostRanksError):
        elastic.start(task, best_with)
    assert lossy.started == [4, 2]
    monkeypatch.setattr(launch, "start", lossy := Lossy((1,)))
    assert layout_of(elastic.start(task, best_with).recipe.parallel).world == 2
    monkeypatch.setattr(launch, "start", Lossy((1,)))
    with pytest.raises(launch.LostRanksError):
        elastic.start(task.model_copy(update={"recipe": recipe_of(elastic=None, data=4)}), best_with)


def test_the_planner_keeps_model_batch_and_what_dropout_depends_on() -> None:
    recipe = recipe_of(tensor=2, data=2)
    found = best_with(recipe, 3, 1)
    assert found is not None
    assert (found.model, found.train.global_batch_size, found.train.tokens) == (
        recipe.model,
        recipe.train.global_batch_size,
        recipe.train.tokens,
    )
    assert 8 % (found.train.micro_batch_size or 0) == 0
    assert best_with(recipe, 5, 5) is None
    dropped = small.small_recipe(parallel={"tensor": 2, "data": 2}, elastic=1)
    kept = best_with(dropped, 3, 1)
    assert kept is not None
    assert (kept.parallel.tensor, kept.parallel.data) == (2, 1)


def test_a_cluster_goes_on_in_whole_nodes() -> None:
    recipe = recipe_of().model_copy(
        update={"cluster": recipe_of().cluster.model_copy(update={"name": "selene", "nodes": 4})}
    )
    cluster = describe(recipe.cluster)
    node = cluster.accelerators_per_node
    assert _left(cluster, 3 * node) == replace(cluster, nodes=3)
    assert _left(cluster, 3 * node - 1) is None
    half = _left(cluster, node // 2)
    assert half is not None
    assert half.accelerators == node // 2


def test_under_a_launcher_as_many_as_were_started_find_their_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(elastic=2, tensor=2, data=2)
    for count, world in (("4", 4), ("2", 2), ("1", 4)):
        monkeypatch.setenv("WORLD_SIZE", count)
        assert layout_of(elastic.for_as_many_as_started(recipe, best_with).parallel).world == world
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(UnsupportedError, match="5 processes have been started"):
        elastic.for_as_many_as_started(recipe, best_with)
