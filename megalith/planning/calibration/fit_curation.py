"""From measured runs of `curate` to the constants of its cost: for each step a start, a rate a unit and a byte; errors.

Least squares of relative errors, nothing below zero, over JSON lines and WARC together. Errors are of runs left out in
turn, above all the largest of a kind, foretold by the smaller ones. `benchmarks/curate_scale.py` makes the runs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from megalith.errors import InputError

LEAST_SIZES = 3
KINDS = ("text", "warc")
UNIT_BYTES = (1e6, 64e6)
UNITS = 64
"""Sources are cut into so many units at least, of this many bytes: `curation.units`."""
SMALL = 0.02
"""Share of a step's longest time; shorter times need not be fitted so exactly."""
DISK = ("text", "keys", "kept", "runs")
Points = Sequence[tuple[float, float]]
Row = Mapping[str, Any]
Features = tuple[float, ...]
Line = tuple[float, float]
"""Value at no bytes at all, and what each byte adds."""


def fit_line(points: Points) -> Line:
    """The line through (bytes, value) with the least squares of relative errors, and neither part below zero.

    Raises InputError with fewer than two different sizes.
    """
    if len({x for x, _ in points}) < 2:
        raise InputError("one size alone has no slope.", where="curate_scale.json", mend="Measure four sizes.")
    start, rate = fit_rates([(1.0, x) for x, _ in points], [y for _, y in points])
    return start, rate


def fit_curation(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The constants that `planning.curation` reads, of what `benchmarks/curate_scale.py` wrote.

    Raises InputError where a kind of input has fewer than LEAST_SIZES sizes.
    """
    decided = [(one["documents"], one["cpu_seconds"]) for one in figures["decided"]]
    rows = figures["rows"]
    errors = {"cpu": _left_out(rows, "steps"), "disk": _left_out(rows, "disk")}
    kinds = {}
    for kind in KINDS:
        places = [place for place, row in enumerate(rows) if row["kind"] == kind]
        if len(places) < LEAST_SIZES:
            raise InputError(
                f"{len(places)} sizes of {kind} are too few to fit.", where="curate_scale.json", mend="Measure four."
            )
        of_kind = {name: [found[place] for place in places] for name, found in errors.items()}
        kinds[kind] = _kind([rows[place] for place in places], of_kind)
    fitted = {
        what: {name: fit_rates(_inputs(rows), values) for name, values in _totals(rows, what).items()}
        for what in ("steps", "disk")
    }
    units = [(one["unit_bytes"], one["worker_peak_bytes"]) for one in figures["units"]]
    peaks = [(row["bytes_kept"], row["apart"]["driver_peak_bytes"]) for row in rows]
    return {
        "schema": 1,
        "provenance": {name: figures[name] for name in ("cpu", "cores", "settings")} | {"from": "curate_scale.json"},
        "kinds": kinds,
        "features": ["start", "unit", "byte of JSON lines", "byte of HTML"],
        **fitted,
        "duplicates": {
            **dict(zip(("seconds", "per_document"), fit_line(decided), strict=True)),
            "spread": _spread(left_out(decided)),
            "documents": [min(x for x, _ in decided), max(x for x, _ in decided)],
        },
        "worker": dict(zip(("bytes", "per_unit_byte"), fit_line(units), strict=True))
        | {"spread": _spread(left_out(units)), "unit_bytes": [min(units)[0], max(units)[0]]},
        "driver": dict(zip(("bytes", "per_kept_byte"), fit_line(peaks), strict=True))
        | {"spread": _spread(left_out(peaks)), "settled_at": max(peaks)[0]},
    }


def left_out(points: Points) -> list[float]:
    """log(predicted / measured) of each point by the line through the others."""
    errors = []
    for number, (x, y) in enumerate(points):
        fixed, rate = fit_line([*points[:number], *points[number + 1 :]])
        errors.append(math.log((fixed + rate * x) / y))
    return errors


def units_of(size: float) -> float:
    """Tasks that so many bytes are cut into."""
    return size / min(UNIT_BYTES[1], max(UNIT_BYTES[0], size / UNITS))


def features(text_bytes: float, warc_bytes: float) -> tuple[float, float, float, float]:
    """Features with which steps and files grow: the start, units, bytes of JSON lines, bytes of HTML."""
    return 1.0, units_of(text_bytes + warc_bytes), text_bytes, warc_bytes


def fit_rates(inputs: Sequence[Features], values: Sequence[float]) -> list[float]:
    """Coefficient of each feature: least squares of relative errors, none below zero (Lawson and Hanson 1974)."""
    x, y = np.array(inputs), np.array(values)
    if not y.any():
        return [0.0] * x.shape[1]
    weights = 1 / np.maximum(y, SMALL * y.max())
    scale = x.max(axis=0) + 1e-300  # a feature that these runs have not is zero
    rates, _ = nnls(x / scale * weights[:, None], y * weights)
    return [float(rate) for rate in rates / scale]


def _totals(rows: Sequence[Row], what: str) -> dict[str, list[float]]:
    if what == "steps":
        names = dict.fromkeys(name for row in rows for name in row["steps"])
        return {name: [row["steps"].get(name, 0.0) for row in rows] for name in names}
    return {name: [_disk(row, name) for row in rows] for name in DISK}


def _inputs(rows: Sequence[Row]) -> list[Features]:
    return [features(*(row["bytes"] if row["kind"] == kind else 0.0 for kind in KINDS)) for row in rows]


def _left_out(rows: Sequence[Row], what: str) -> list[float]:
    """log(predicted / measured) of each row's sum, by rates that have not seen the row."""
    inputs, totals = _inputs(rows), _totals(rows, what)
    errors = []
    for left, given in enumerate(inputs):
        others = [one for number, one in enumerate(inputs) if number != left]
        foretold = 0.0
        for values in totals.values():
            rates = fit_rates(others, [value for number, value in enumerate(values) if number != left])
            foretold += sum(rate * amount for rate, amount in zip(rates, given, strict=True))
        errors.append(math.log(foretold / sum(values[left] for values in totals.values())))
    return errors


def _kind(rows: Sequence[Row], errors: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    sizes = [float(row["bytes"]) for row in rows]
    largest = sizes.index(max(sizes))
    return {
        "bytes": [min(sizes), max(sizes)],
        "documents_per_byte": sum(row["documents"] for row in rows) / sum(sizes),
        "kept_share": sum(row["bytes_kept"] for row in rows) / sum(sizes),
        "keys_per_document": _disk(rows[largest], "keys") / rows[largest]["documents"],
        "spread": {name: _spread(found) for name, found in errors.items()},
        "left_out": {name: [round(math.expm1(error), 4) for error in found] for name, found in errors.items()},
        "largest_left_out": {name: round(math.expm1(found[largest]), 4) for name, found in errors.items()},
    }


def _disk(row: Mapping[str, Any], name: str) -> float:
    disk = row["disk"]
    return float(disk["signatures"] + disk["bands"] if name == "keys" else disk[name])


def _spread(errors: Sequence[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(sum(error * error for error in errors) / len(errors))
