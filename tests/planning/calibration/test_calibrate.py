"""Calibration, on tables that the model itself made: what was put in comes out, and the file says how."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from megalith.errors import InputError
from megalith.planning.calibration.calibrate import calibrate, calibrate_rows, held_out_errors, sample_of, spread_of
from megalith.planning.calibration.fit_step_time import Fit, fit
from megalith.planning.calibration.published_runs import read_table
from megalith.planning.calibration.validate import validate
from megalith.planning.performance import predict_step
from megalith.planning.performance.constants import (
    PRIORS,
    constants_for,
    normal_quantile,
    of_generation,
    read_constants,
    shipped,
)
from megalith.recipe import ClusterConfig
from megalith.topology import Layout, describe
from tests.planning.calibration.measured import MULTIPLIERS, TRUE, write_table
from tests.planning.performance.jobs import GPT_22B, job


@pytest.fixture(scope="module")
def exact_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("tables") / "exact.csv")


def test_the_constants_behind_a_table_come_out_of_it(exact_table: Path) -> None:
    rows, _ = read_table(exact_table)
    samples = [sample_of(row, PRIORS["a100"]) for row in rows]
    found = fit(samples)
    errors = [found.log_error(sample) for sample in samples]
    assert max(map(abs, errors)) < 0.04
    # alone, a rate and the share of it that one kind of traffic reaches are hard to tell apart: their product is told
    constants = found.generations["a100"]
    reached, true = constants.network * constants.gradient_network, TRUE.network * TRUE.gradient_network
    assert reached == pytest.approx(true, rel=0.1)
    for name in ("node_link", "launch_seconds", "gradient_network"):
        prior, ended, behind = (getattr(one, name) for one in (PRIORS["a100"], constants, TRUE))
        assert abs(ended - behind) < abs(prior - behind), name
    ratio = found.stacks["megatron-deepspeed"] / found.stacks["megatron"]
    # a stack that only ten runs have leans on 1: 4 % of what lies between the two
    assert ratio == pytest.approx(MULTIPLIERS["megatron-deepspeed"] / MULTIPLIERS["megatron"], rel=0.05)


def test_the_same_table_gives_the_same_file(exact_table: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for path in (first, second):
        calibrate(exact_table, path)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_held_out_is_not_fitted_and_the_file_says_so(exact_table: Path, tmp_path: Path) -> None:
    record = calibrate(exact_table, tmp_path / "constants.json", ["runs-2"])
    assert record == json.loads((tmp_path / "constants.json").read_text())
    (one,) = record["sets"]
    assert one["generation"] == "a100"
    assert set(one["fitted"]) == {"runs-0", "runs-1"}
    assert one["held_out"]["runs-2"]["why"] == "held out as asked"
    assert set(one["stacks"]) == {"megatron"}
    assert {entry["unit"] for entry in one["constants"].values()} >= {"of peak", "seconds"}


def test_a_dataset_held_out_as_asked_is_so_for_validate_too_though_its_first_run_is_not_stated(tmp_path: Path) -> None:
    lines = write_table(tmp_path / "runs.csv").read_text().splitlines()
    cells = dict(zip(lines[0].split(","), lines[3].split(","), strict=True))
    assert cells["dataset"] == "runs-2"
    (tmp_path / "runs.csv").write_text("\n".join([*lines[:3], ",".join((cells | {"mbs": ""}).values()), *lines[4:]]))
    record = calibrate(tmp_path / "runs.csv", tmp_path / "constants.json", ["runs-2"])
    assert record["sets"][0]["held_out"] == {"runs-2": {"rows": 10, "why": "held out as asked"}}
    found = validate(tmp_path / "runs.csv", tmp_path / "constants.json")
    assert all("runs-2" not in one["held_out"]["fitted"] for one in found["datasets"])


def test_a_dataset_to_hold_out_that_the_table_has_not_is_refused(exact_table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs-0, runs-1, runs-2"):
        calibrate(exact_table, tmp_path / "constants.json", ["run-2"])


def test_intervals_of_rows_held_out_hold_what_they_claim(tmp_path: Path) -> None:
    table = write_table(tmp_path / "noisy.csv", noise=0.05)
    fresh, _ = read_table(write_table(tmp_path / "fresh.csv", noise=0.05, seed=7))
    sets = {one["generation"]: one for one in calibrate_rows(read_table(table)[0])}
    within = []
    for row in fresh:
        low, high = predict_step(row.job, constants_for(row.job, sets), exact=False).interval
        assert row.measured_seconds is not None
        within.append(low <= row.measured_seconds <= high)
    assert 0.7 <= sum(within) / len(within) <= 0.97  # 80 % of 30


def test_the_intervals_of_a_generation_hold_what_they_claim_though_one_stack_errs_far_more(
    exact_table: Path,
) -> None:
    """A stack with errors of 30 % must not widen the others', which would then hold everything."""
    rows, _ = read_table(exact_table)
    noise = np.random.default_rng(3).standard_normal(len(rows))
    noisy = [
        replace(row, measured_seconds=(row.measured_seconds or 0.0) * math.exp(size * each))
        for row, each in zip(rows, noise, strict=True)
        for size in [0.3 if row.job.stack == "megatron-deepspeed" else 0.04]
    ]
    (one,) = calibrate_rows(noisy)
    samples = [sample_of(row, PRIORS["a100"]) for row in noisy]
    errors = held_out_errors(samples, fit(samples))
    within = [
        abs(error) <= normal_quantile(0.8) * one["stacks"][sample.job.stack]["spread"] * (1 + 1e-9)
        for sample, error in zip(samples, errors, strict=True)
    ]
    assert sum(within) / len(within) == pytest.approx(0.8, abs=0.04)
    assert one["stacks"]["megatron-deepspeed"]["spread"] > 1.5 * one["stacks"]["megatron"]["spread"]


def test_what_is_held_out_has_no_say_in_its_own_prediction(exact_table: Path) -> None:
    rows, _ = read_table(exact_table)
    prior = PRIORS["a100"]

    def predicted(slower: float) -> list[float]:
        """Return runs-0 with all of its runs slowed by a factor."""
        samples = [
            one._replace(seconds=one.seconds * slower) if one.dataset == "runs-0" else one
            for one in (sample_of(row, prior) for row in rows)
        ]
        errors = held_out_errors(samples, fit(samples))
        return [
            math.exp(error) * one.seconds
            for error, one in zip(errors, samples, strict=True)
            if one.dataset == "runs-0" and one.job.stack == "megatron"
        ]

    assert predicted(1.6) == pytest.approx(predicted(1.0), rel=0.01)


def test_a_file_is_written_whole_and_read_back(exact_table: Path, tmp_path: Path) -> None:
    record = calibrate(exact_table, tmp_path / "constants.json")
    assert [path.name for path in tmp_path.iterdir()] == ["constants.json"]
    sets = read_constants(tmp_path / "constants.json")
    found = of_generation("a100", "megatron", sets)
    assert found.gemm == record["sets"][0]["constants"]["gemm"]["value"]
    unseen = of_generation("a100", "another", sets)
    assert unseen.stack == 1.0
    assert unseen.spread > found.spread


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"schema": 1, "sets": [{"schema": 99}]}'])
def test_a_file_that_holds_no_constants_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "constants.json").write_text(text)
    with pytest.raises(InputError, match=r"not a file of constants|not JSON"):
        read_constants(tmp_path / "constants.json")


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("constants", "gemm", "value"), -0.7),
        (("constants", "memory", "value"), "fast"),
        (("stacks", "megatron", "multiplier"), 0.0),
        (("stacks", "megatron", "spread"), None),
        (("residuals", "coverage"), 1.0),
        (("generation",), "z900"),
        (("held_out",), None),
    ],
)
def test_a_file_with_a_figure_that_is_none_is_refused(tmp_path: Path, place: tuple[str, ...], wrong: object) -> None:
    """Those that `calibrate` wrote are changed by hand."""
    record = {"sets": copy.deepcopy(list(shipped().values()))}
    held = record["sets"][0]
    for key in place[:-1]:
        held = held[key]
    held[place[-1]] = wrong
    (tmp_path / "constants.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"not a file of constants|not JSON"):
        read_constants(tmp_path / "constants.json")


def test_too_few_rows_are_refused(tmp_path: Path, exact_table: Path) -> None:
    lines = exact_table.read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(InputError, match="fewer than"):
        calibrate(tmp_path / "few.csv", tmp_path / "constants.json")


def test_the_spread_is_the_quantile_that_the_interval_promises() -> None:
    assert spread_of([0.01 * n for n in range(1, 11)]) * 1.2815515655 == pytest.approx(0.09)


def test_the_shipped_constants_never_saw_mt_nlg_and_are_those_of_a_generation() -> None:
    sets = shipped()
    assert set(sets) >= {"a100", "h100"}
    for one in sets.values():
        assert not any("mtnlg" in name for name in one["fitted"])
        assert len(one["constants"]) <= 11  # ten, and the rate of fp8
    assert "mtnlg_530b" in sets["a100"]["held_out"]


def test_an_accelerator_without_measurements_has_the_priors_and_their_interval() -> None:
    asked = job(Layout(8, 1, 1), GPT_22B, cluster=describe(ClusterConfig(name="mi300x")), precision="bf16")
    known = constants_for(asked)
    assert known == replace(PRIORS["mi300x"], stack=known.stack)
    low, high = predict_step(asked).interval
    assert high / low > 1.5


def test_a_generation_with_few_rows_leans_on_the_others_and_one_with_many_hardly(exact_table: Path) -> None:
    """A hundred and twenty runs of one generation and two of another, all slower than the priors by their network."""
    rows, _ = read_table(exact_table)
    many = [sample_of(row, PRIORS["a100"]) for row in rows]
    hopper = describe(ClusterConfig(name="dgx-h100", nodes=8))
    few = [one._replace(job=replace(one.job, cluster=hopper), seconds=one.seconds * 0.4) for one in many[:2]]
    alone, together = fit(few), fit([*many, *few])

    def shift(found: Fit, generation: str) -> float:
        """The launches, which the table has 1.7 times as long as the priors."""
        return math.log(found.generations[generation].launch_seconds / PRIORS[generation].launch_seconds)

    assert shift(together, "a100") > 0.1
    assert shift(together, "h100") > shift(alone, "h100") + 0.03
    assert 0 < shift(together, "b200") <= shift(together, "a100")  # of which nobody has seen a row
    assert shift(fit(many), "a100") == pytest.approx(shift(together, "a100"), abs=0.1)
