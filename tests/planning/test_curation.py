"""The cost of curation: what was put into made-up runs comes out, and the shipped constants tell the measured ones."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from megalith.curation import merge
from megalith.curation.corpus import read_units
from megalith.errors import InputError
from megalith.planning import curation
from megalith.planning.calibration import fit_curation as fitting
from megalith.planning.calibration.fit_curation import fit_curation, fit_line, fit_rates, left_out
from megalith.planning.curation import CurationCost, predict_curation, shipped
from tests.conftest import ROOT

MEASURED = json.loads((ROOT / "benchmarks" / "results" / "curate_scale.json").read_text())
STEPS = {
    "text": {"map read": (0.0, 4e-9), "start and rest": (1.2, 1e-8)},
    "warc": {"map read": (0.0, 9e-9), "start and rest": (1.2, 0.0)},
}
DISK = {"text": (0.0, 0.5), "kept": (1e4, 0.4), "runs": (0.0, 0.45)}
KEYS_PER_DOCUMENT = 1200


def made_up(noise: float = 0.0) -> dict[str, Any]:
    """Runs of a machine of which everything is known."""
    rng = np.random.default_rng(3)

    def line(start: float, rate: float, size: float) -> float:
        return (start + rate * size) * math.exp(noise * rng.normal())

    rows = []
    for kind, steps in STEPS.items():
        for size in (1e7, 2e7, 4e7, 8e7):
            disk = {name: line(*pair, size) for name, pair in DISK.items()}
            documents = int(size / 4000)
            rows.append(
                {
                    "kind": kind,
                    "bytes": size,
                    "documents": documents,
                    "bytes_kept": 0.9 * size,
                    "steps": {name: line(*pair, size) for name, pair in steps.items()},
                    "disk": {**disk, "signatures": 1040 * documents, "bands": 160 * documents},
                    "apart": {"driver_peak_bytes": 4e8},
                }
            )
    decided = [{"documents": n, "cpu_seconds": 0.5 + 4e-6 * n} for n in (250_000, 500_000, 1_000_000)]
    units_ = [{"unit_bytes": size, "worker_peak_bytes": 3e8 + 5 * size} for size in (5e6, 1e7, 2e7)]
    return {"cpu": "one", "cores": 2, "settings": {}, "rows": rows, "decided": decided, "units": units_}


def test_the_line_behind_exact_points_is_found_and_nothing_falls_below_zero() -> None:
    assert fit_line([(x, 3.0 + 0.25 * x) for x in (1.0, 2.0, 7.0)]) == pytest.approx((3.0, 0.25))
    assert fit_line([(1.0, 1.0), (2.0, 2.5), (4.0, 6.0)])[0] == 0.0  # bent upwards: no start below zero
    features = [(1.0, x, y) for x, y in ((1.0, 9.0), (2.0, 3.0), (5.0, 4.0), (8.0, 1.0))]
    assert fit_rates(features, [2.0 + 3.0 * y for _, _, y in features]) == pytest.approx([2.0, 0.0, 3.0], abs=1e-9)
    assert fit_line([(1.0, 3.0), (2.0, 2.0)])[1] == 0.0
    with pytest.raises(InputError, match="no slope"):
        fit_line([(5.0, 1.0), (5.0, 1.1)])


def test_a_point_left_out_has_no_say_in_its_own_prediction() -> None:
    points = [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (8.0, 80.0)]
    assert left_out(points)[3] == pytest.approx(math.log(8.0 / 80.0))


def test_what_is_behind_made_up_runs_comes_out_of_them() -> None:
    constants = fit_curation(made_up())
    cost = predict_curation(text_bytes=1e9, warc_bytes=5e8, documents=1e6, constants=constants)
    assert cost.steps["map read"] == pytest.approx(4.0 + 4.5)
    assert cost.steps["duplicates"] == pytest.approx(0.5 + 4.0)
    assert cost.steps["start and rest"] == pytest.approx(1.2 + 10.0)
    assert cost.cpu_hours.value == pytest.approx((8.5 + 11.2 + 4.5) / 3600)
    assert cost.disk["keys"] == pytest.approx(KEYS_PER_DOCUMENT * 1e6)
    assert cost.disk["records"] == pytest.approx(126e6)
    assert cost.shuffled_bytes.value == pytest.approx(0.45 * 1.5e9 + 310e6)
    open_runs = 33 * (1.35e9 / 32e6) * 64  # of 43 buckets each
    assert cost.driver_memory_bytes.value == pytest.approx(4e8 + 64 * curation.TASK_BYTES + open_runs)
    assert cost.worker_memory_bytes.value == pytest.approx(3e8 + 5 * 1.5e9 / 64)
    assert cost.cpu_hours.high == pytest.approx(cost.cpu_hours.value)  # exact runs leave no doubt


def test_intervals_are_as_wide_as_runs_left_out_were_off() -> None:
    cost = predict_curation(text_bytes=4e7, constants=fit_curation(made_up(noise=0.05)))
    width = math.log(cost.cpu_hours.high / cost.cpu_hours.low) / 4
    assert 0.02 < width < 0.15  # one deviation: 5 % of noise, and what three points make of it


def test_more_cores_shorten_all_but_the_driver() -> None:
    cost = predict_curation(warc_bytes=1e12)
    assert cost.hours_on(1) == pytest.approx(cost.cpu_hours.value)
    assert cost.hours_on(10**9) == pytest.approx(cost.serial_hours, rel=1e-6)
    assert 0.0 < cost.serial_hours < cost.cpu_hours.value


def _of(row: dict[str, Any]) -> CurationCost:
    return predict_curation(**{f"{row['kind']}_bytes": row["bytes"]}, documents=row["documents"])


@pytest.mark.parametrize("row", MEASURED["rows"], ids=lambda row: f"{row['kind']} {row['bytes'] / 1e6:.0f} MB")
def test_the_shipped_constants_tell_the_measured_runs_within_their_interval(row: dict[str, Any]) -> None:
    cost = _of(row)
    assert cost.cpu_hours.low <= row["cpu_seconds"] / 3600 <= cost.cpu_hours.high
    written = sum(row["disk"][name] for name in ("text", "signatures", "bands", "kept", "runs"))
    written += cost.disk["records"]  # were in memory when these runs were measured
    assert cost.disk_bytes.low <= written <= cost.disk_bytes.high
    assert cost.driver_memory_bytes.low <= row["apart"]["driver_peak_bytes"] <= cost.driver_memory_bytes.high


def leaves(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return the values nested in lists and dictionaries, by their place."""
    if not isinstance(value, dict | list):
        yield place, value
        return
    for name, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(one, (*place, str(name)))


def test_the_shipped_constants_are_those_of_the_measured_runs() -> None:
    """To the last digits, in which libraries differ."""
    fitted = json.loads(json.dumps(fit_curation(MEASURED)))
    held, found = dict(leaves(shipped())), dict(leaves(fitted))
    assert held.keys() == found.keys()
    for place, value in held.items():
        alike = pytest.approx(value, rel=1e-9, abs=1e-18) if isinstance(value, float) else value
        assert found[place] == alike, place


@pytest.mark.parametrize("kind", ["text", "warc"])
def test_the_largest_run_is_foretold_by_the_smaller_three(kind: str) -> None:
    figures = copy.deepcopy(MEASURED)
    rows = [row for row in figures["rows"] if row["kind"] == kind]
    largest = max(rows, key=lambda row: float(row["bytes"]))
    figures["rows"].remove(largest)
    cost = predict_curation(
        **{f"{kind}_bytes": largest["bytes"]}, documents=largest["documents"], constants=fit_curation(figures)
    )
    error = cost.cpu_hours.value * 3600 / largest["cpu_seconds"] - 1
    assert abs(error) < 0.1
    assert error == pytest.approx(shipped()["kinds"][kind]["largest_left_out"]["cpu"], abs=0.02)


def test_a_run_four_times_the_largest_that_was_fitted_is_foretold_within_a_tenth() -> None:
    row = MEASURED["check"]
    cost = _of(row)
    written = sum(row["disk"][name] for name in ("text", "signatures", "bands", "kept", "runs"))
    assert cost.cpu_hours.value * 3600 == pytest.approx(row["cpu_seconds"], rel=0.1)
    written += cost.disk["records"]  # were in memory when this was measured
    assert cost.disk_bytes.value == pytest.approx(written, rel=0.03)
    assert cost.driver_memory_bytes.value == pytest.approx(row["apart"]["driver_peak_bytes"], rel=0.1)
    assert cost.worker_memory_bytes.value == pytest.approx(row["apart"]["worker_peak_bytes"], rel=0.12)


def test_a_prediction_far_outside_of_what_was_measured_says_so() -> None:
    row = MEASURED["rows"][1]
    assert not any("extrapolation" in note for note in _of(row).notes)
    assert any("extrapolation" in note for note in predict_curation(text_bytes=5e12).notes)
    assert any("are joined" in note for note in predict_curation(text_bytes=5e12).notes)


@pytest.mark.parametrize("given", [{}, {"text_bytes": -1.0}, {"warc_bytes": math.nan}, {"documents": 10.0}])
def test_amounts_that_are_none_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InputError):
        predict_curation(**given)


def test_too_few_sizes_are_refused() -> None:
    figures = made_up()
    figures["rows"] = [row for row in figures["rows"] if row["kind"] == "text" or row["bytes"] > 3e7]
    with pytest.raises(InputError, match="2 sizes of warc"):
        fit_curation(figures)


def test_the_limits_of_the_code_are_those_of_curation() -> None:
    assert fitting.UNIT_BYTES == (read_units.FEWEST_BYTES, read_units.MOST_BYTES)
    assert fitting.UNITS == read_units.UNITS
    assert (curation.BUCKET_BYTES, curation.MOST_BUCKETS) == (merge.BUCKET_BYTES, merge.MOST_BUCKETS)
    assert curation.MOST_OPEN == merge.MOST_OPEN
