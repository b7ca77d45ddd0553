"""The whole run, against a loop that takes one step at a time."""

import math
from dataclasses import replace

import pytest

from megalith.job import Job
from megalith.planning.performance.run_cost import NODE_SHARE, PUE, run_totals
from megalith.recipe import Recipe, load_recipe
from megalith.topology import Layout, describe


def mt_nlg(*overrides: str) -> tuple[Recipe, Job]:
    recipe = load_recipe("mt-nlg-530b", ["cluster.nodes=280", "parallel.data=8", *overrides])[0]
    return recipe, Job(recipe.model, describe(recipe.cluster), Layout(8, 35, 8), 1, 1920)


def told(job: Job) -> float:
    """Two seconds and a hundredth for each sequence."""
    return 2 + job.global_batch_size / 100


def test_mt_nlgs_ramp_goes_from_32_to_1920_in_steps_of_32_over_12_billion_tokens() -> None:
    """Each step counted: the batch is what the tokens seen so far say, and small batches are filled up to 8."""
    recipe, job = mt_nlg()
    seen = steps = 0
    seconds = ramp = 0.0
    while seen < 270e9:
        batch = 32 + min(59, seen * 59 // 12_000_000_000) * 32
        seconds += 2 + batch / 100
        ramp += 2 + batch / 100 if batch < 1920 else 0
        steps += 1
        seen += batch * 2048
    totals = run_totals(recipe, job, 270_000_000_000, told, (0.9, 1.2))
    assert totals.steps == steps
    assert totals.seconds == pytest.approx(seconds, rel=1e-9)
    assert totals.ramp_seconds == pytest.approx(ramp, rel=1e-9)
    assert totals.accelerator_hours == pytest.approx(seconds * 2240 / 3600)
    assert totals.days == pytest.approx(seconds / 86400)


def test_intervals_are_those_of_the_step() -> None:
    totals = run_totals(*mt_nlg(), 270_000_000_000, told, (0.9, 1.2), price=2.0)
    low, high = totals.seconds_interval
    assert (low / totals.seconds, high / totals.seconds) == pytest.approx((0.9, 1.2))
    assert totals.money == pytest.approx(2 * totals.accelerator_hours)
    assert totals.money_interval == pytest.approx((0.9 * totals.money, 1.2 * totals.money))


def test_energy_is_tdp_by_what_nodes_draw_by_pue_and_its_interval_wider_than_the_times() -> None:
    totals = run_totals(*mt_nlg(), 270_000_000_000, told, (0.9, 1.2))
    assert totals.energy_kwh == pytest.approx(0.4 * NODE_SHARE * PUE * totals.accelerator_hours)  # an A100's 400 W
    assert totals.energy_kwh_interval is not None
    low, high = totals.energy_kwh_interval
    assert low < 0.9 * totals.energy_kwh and high > 1.2 * totals.energy_kwh
    # BLOOM: 433 MWh and 257 MWh idle for 1,082,990 A100-hours (2211.02001), before the PUE
    bloom = 0.4 * NODE_SHARE * 1_082_990
    assert bloom == pytest.approx((433_196 + 256_646), rel=0.15)


def test_without_a_price_there_is_no_money() -> None:
    totals = run_totals(*mt_nlg(), 270_000_000_000, told, (1.0, 1.0))
    assert totals.money is None
    assert totals.money_interval is None


@pytest.mark.parametrize(("batch", "schedule", "filled"), [(96, "1f1b", 96), (100, "1f1b", 104), (8, "1f1b", 8),
                                                           (96, "interleaved-1f1b", 280), (1, "zb-h1", 8)])  # fmt: skip
def test_a_batch_is_filled_up_as_training_fills_it(batch: int, schedule: str, filled: int) -> None:
    """Whole micro-batches on each of 8 replicas; interleaved, in rounds of 35."""
    job = replace(mt_nlg()[1], schedule=schedule, virtual_stages=3 if schedule.startswith("inter") else 1)  # type: ignore[arg-type]  # one of the schedules
    assert job.at_batch(batch).global_batch_size == filled
    assert job.at_batch(batch).global_batch_size % 8 == 0
    assert (
        job.at_batch(batch).global_batch_size
        >= batch
        > job.at_batch(batch).global_batch_size - (8 * 35 if filled == 280 else 8)
    )


def test_batches_that_are_filled_up_alike_are_predicted_once() -> None:
    asked: list[int] = []

    def once(job: Job) -> float:
        asked.append(job.global_batch_size)
        return 1.0

    recipe, job = mt_nlg()
    totals = run_totals(recipe, job, 270_000_000_000, once, (1.0, 1.0))
    assert len(asked) == len(set(asked)) == 60
    assert totals.seconds == totals.steps
    assert math.isclose(totals.ramp_seconds, totals.steps - math.ceil((270e9 - 12e9) / (1920 * 2048)), abs_tol=60)
