"""Planted faults, each named: a bad shard, a number that is not finite on one rank, a flipped bit in one replica."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.errors import MegalithError, ResourceError
from megalith.parallel import DistributedModel, Mesh, compute_deterministically
from megalith.recipe import Recipe
from megalith.training import going_back, loop, run_state
from megalith.training.checkpoint import open_step
from megalith.training.data import Samples
from megalith.training.replicas import differing, digest, outvoted
from megalith.training.spikes import is_spike, spike_score
from megalith.training.task import TrainTask
from tests.parallel.processes import on_ranks
from tests.training import forked, small

SEQUENCES, LENGTH, STEPS = 8, 16, 30
BAD = range(24 * SEQUENCES, 24 * SEQUENCES + 2)
"""Samples of step 25 that hold noise."""
FAULTY = 1
"""The rank that computes wrongly."""


def recipe_of(parallel: dict[str, Any] | None = None, **train: Any) -> Recipe:
    settings: dict[str, Any] = {
        "tokens": STEPS * SEQUENCES * LENGTH,
        "batch_ramp": None,
        "micro_batch_size": 2,
        "learning_rate": 0.02,
        "spike_window": 8,
        "spike_score": 5.0,
        "checkpoint_interval": 5,
        "validation_interval": 100,
    }
    layout = {"data": 2} if parallel is None else parallel
    return small.small_recipe(model={"num_layers": 1, "dropout": 0.0}, parallel=layout, **settings | train)


# what is planted


class NoisyShard:
    """Samples of which a few are noise: ids that the others hardly have."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def batch(self, first: int, count: int) -> dict[str, Tensor]:
        read = {name: value.clone() for name, value in self.samples.batch(first, count).items()}
        for row in range(count):
            if first + row in BAD:
                for value in read.values():
                    value[row] = torch.arange(LENGTH) * 17 % 200 + 100
        return read


def plant_noise(rank: int, patch: pytest.MonkeyPatch) -> None:
    samples = run_state.training_samples
    patch.setattr(run_state, "training_samples", lambda task: NoisyShard(samples(task)))


def plant_gradient(times: int, at_call: int, value: float) -> Callable[[int, pytest.MonkeyPatch], None]:
    """One rank's gradient is wrong so many times, from a call on; its losses are right."""

    def plant(rank: int, patch: pytest.MonkeyPatch) -> None:
        right, calls = DistributedModel.forward_backward, []

        def wrong(model: DistributedModel, *arguments: Any) -> Tensor:
            calls.append(1)
            if rank == FAULTY and at_call <= len(calls) < at_call + times:
                model.gradients.flat[3] = value  # type: ignore[attr-defined]  # without ZeRO; more is added to it
            return right(model, *arguments)

        patch.setattr(DistributedModel, "forward_backward", wrong)

    return plant


def plant_flip(times: int) -> Callable[[int, pytest.MonkeyPatch], None]:
    """After its 8th step (and again when it is replayed) a bit of one rank's weights flips."""

    def plant(rank: int, patch: pytest.MonkeyPatch) -> None:
        right, flips = loop.take_step, []

        def flipping(run: run_state.Run, batch: Any) -> dict[str, Any]:
            record = right(run, batch)
            if rank == FAULTY and batch.step == 8 and len(flips) < times:
                flips.append(1)
                (held_alike,) = (m for m in run.model.masters if m.name == "final_norm.weight")
                held_alike.value.data.view(torch.int32)[0] ^= 1 << 12
            return record

        patch.setattr(loop, "take_step", flipping)

    return plant


PLANTS = {
    "nothing": lambda rank, patch: None,
    "noise": plant_noise,
    "a gradient once": plant_gradient(1, 7, math.nan),
    "a gradient always": plant_gradient(9, 7, math.inf),
    "a flip once": plant_flip(1),
    "a flip twice": plant_flip(2),
}


def train_with(rank: int, world: int, task: str, planted: str) -> dict[str, Tensor]:
    compute_deterministically()
    with pytest.MonkeyPatch.context() as patch:
        PLANTS[planted](rank, patch)
        given = TrainTask.model_validate_json(task)
        try:
            loop.run(given, Mesh(rank, world), lambda: False)
        except MegalithError as error:
            (given.logs / f"said-{rank}").write_text(f"{type(error).__name__} {error}")
    return {}


def trained(directory: Path, recipe: Recipe, planted: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The steps and the events of a run; with what was planted, and how it ended, in its logs."""
    task = forked.task_of(directory / planted.replace(" ", "-"), recipe)
    world = forked.world_of(recipe)
    on_ranks(world, train_with, world, task.model_dump_json(), planted)
    said = task.logs / "said-0"
    if said.is_file():
        raise ResourceError(said.read_text())
    newest = sorted(task.checkpoints.glob("step-*"))[-1]
    return forked.steps_of(task), open_step(newest).progress.events


# a bad shard


def test_a_bad_shard_is_named_by_its_samples_and_skipped(tmp_path: Path) -> None:
    steps, events = trained(tmp_path, recipe_of(on_spike="skip"), "noise")
    (event,) = events
    assert (event["step"], event["event"], event["cause"]) == (25, "a loss spike", "data")
    assert event["worst"]["samples"] == [BAD.start, BAD.stop - 1]
    assert [step["step"] for step in steps if "skipped" in step] == [25]
    assert len(steps) == STEPS


def test_a_bad_shard_is_gone_round_from_the_last_checkpoint(tmp_path: Path) -> None:
    steps, events = trained(tmp_path, recipe_of({}, on_spike="roll_back"), "noise")
    assert [event["event"] for event in events] == ["a loss spike", "went back"]
    assert events[1] == {"step": 25, "event": "went back", "to": 20, "samples": [160, 199]}
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert not any("skipped" in step for step in steps)
    assert max(step["loss"] for step in steps[20:]) < steps[19]["loss"] + 0.5


def test_spikes_are_not_looked_for_unless_asked(tmp_path: Path) -> None:
    steps, events = trained(tmp_path, recipe_of({}), "noise")
    assert events == []
    assert steps[24]["loss"] > steps[23]["loss"] + 0.5


def test_a_spike_is_far_above_the_median_of_the_steps_that_were_taken() -> None:
    losses = [3.0, 3.1, 2.9, 3.0, 3.05, 2.95, 3.0, 3.02]
    steps: list[dict[str, Any]] = [{"loss": loss, "gradient_norm": 1.0} for loss in losses]
    spread = 1.4826 * 0.035
    assert spike_score(steps, 3.5, 8) == pytest.approx((3.5 - 3.0) / spread, rel=0.2)
    assert spike_score(steps, 3.5, 9) is None
    ignored = [{"loss": 99.0, "gradient_norm": 1.0, "skipped": "spike"}, {"loss": None, "gradient_norm": 1.0}]
    assert spike_score([*steps, *ignored], 3.5, 8) == spike_score(steps, 3.5, 8)
    train = recipe_of(on_spike="skip").train
    assert is_spike(train, steps, 4.0)
    assert not is_spike(train, steps, 2.0), "a fall is none"


# a gradient that is not finite, without a loss


def test_what_does_not_come_again_is_taken_the_second_time_and_the_rank_is_named(tmp_path: Path) -> None:
    clean, none = trained(tmp_path, recipe_of(), "nothing")
    steps, (event,) = trained(tmp_path, recipe_of(), "a gradient once")
    assert steps == clean
    assert none == []
    assert event == {"step": 7, "event": "taken the second time", "cause": "transient", "ranks": [FAULTY]}


def test_a_rank_that_computes_wrongly_again_and_again_ends_the_run_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="at step 7 rank 1 computes wrongly again and again"):
        trained(tmp_path, recipe_of(), "a gradient always")


# a flipped bit


@pytest.mark.parametrize("layout", [{"data": 2}, {"tensor": 2}, {"tensor": 2, "sequence_parallel": True}], ids=str)
def test_a_flipped_bit_on_one_rank_is_found_named_and_replayed_away(tmp_path: Path, layout: dict[str, Any]) -> None:
    clean, _ = trained(tmp_path, recipe_of(layout), "nothing")
    steps, events = trained(tmp_path, recipe_of(layout), "a flip once")
    assert steps == clean
    assert events[0] == {"step": 10, "event": "went back", "to": 5}
    assert events[1] == {"step": 10, "event": "weights differed", "cause": "transient", "ranks": [FAULTY]}


def test_weights_that_differ_also_when_replayed_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="differ at step 10, also when it is replayed: rank 0 or 1"):
        trained(tmp_path, recipe_of(), "a flip twice")


def test_every_bit_and_place_changes_a_digest() -> None:
    weights = torch.randn(5, 7)
    found = {digest(weights), digest(weights.T), digest(weights.flip(0))}
    for bit in range(32):
        flipped = weights.clone()
        flipped.view(torch.int32)[2, 3] ^= 1 << bit if bit < 31 else -(2**31)
        found.add(digest(flipped))
    assert len(found) == 3 + 32


def test_of_three_replicas_the_one_that_differs_is_outvoted() -> None:
    ranks = [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1, "b": 2}, {"c": 4}]
    assert differing(ranks) == ["b"]
    assert outvoted(ranks) == [1]
    assert outvoted(ranks[:2]) == []


def test_a_run_that_goes_back_again_and_again_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(going_back, "MOST_TIMES", 2)
    monkeypatch.setattr("megalith.training.step.is_spike", lambda train, steps, loss: len(steps) == 6)
    task = forked.task_of(tmp_path / "run", recipe_of({}, on_spike="roll_back"))
    with pytest.raises(MegalithError, match="gone back to step 5 2 times") as raised:
        loop.run(task, Mesh(), lambda: False)
    assert "--branch 5" in (raised.value.mend or "")
    assert json.loads((task.checkpoints / "steps.jsonl").read_text().splitlines()[-1])["step"] == 5
