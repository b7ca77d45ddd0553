"""The fit of the two constants of each stack and meter to published or measured memory, and its error on held-out rows.

Least squares of relative errors, with what is expected as further observations; a row far off (a misprint) weighs less.
Nothing is drawn at random, so that the same rows give the same constants.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts import whole
from megalith.errors import InputError
from megalith.job import Job
from megalith.planning.calibration.published_runs import read_table
from megalith.planning.performance.memory.constants import (
    CONTEXT_BYTES,
    COVERAGE,
    Line,
    MemoryConstants,
    Meter,
    shown_meter,
)
from megalith.planning.performance.memory.estimate import counted_bytes, estimate_memory

LEAST_ROWS = 4
_EXPECTED: Mapping[Meter, tuple[float, float]] = {
    "allocated": (1.0, 0.0),
    "reserved": (1.1, 0.5e9),
    "device": (1.1, CONTEXT_BYTES),
}
_SHARE_SD, _BYTES_SD = 0.1, 1e9  # of the constants about what is expected
_ERROR_SD = 0.05  # of a row
_FAR = 1.5  # standard deviations from which on a row weighs less


@dataclass(frozen=True)
class MemoryRow:
    """One measurement."""

    job: Job
    measured_bytes: float
    meter: Meter
    name: str = ""


@dataclass(frozen=True)
class Judged:
    """A prediction beside its measurement."""

    row: MemoryRow
    predicted_bytes: float

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted_bytes / self.row.measured_bytes - 1


def calibrate_memory(table: Path, output: Path) -> dict[str, Any]:
    """Fit the constants to the rows of `table` whose memory was measured, and write them to `output`.

    The file has the form of the shipped `constants/memory.json`. Raises InputError where the table cannot be read, or
    has fewer than LEAST_ROWS such rows.
    """
    rows = [
        memory_row(row.job, row.memory_bytes, row.row_id)
        for row in read_table(table)[0]
        if row.memory_bytes and row.memory_of == "shown"
    ]
    if len(rows) < LEAST_ROWS:
        raise InputError(
            f"fewer than {LEAST_ROWS} rows state the memory that they took.",
            where=f"{table}: mem_gb",
            mend="Add rows with mem_gb; until then, use the shipped constants.",
        )
    constants = fit_memory(rows)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole(output) as temporary:
        temporary.write_text(constants.to_json() + "\n")
    return {
        "table": str(table),
        "rows": len(rows),
        "constants": json.loads(constants.to_json()),
        "mape": mean_error(judge(rows, constants)),
        "held_out_mape": mean_error(held_out(rows)),
    }


def memory_row(job: Job, measured_bytes: float, name: str = "") -> MemoryRow:
    """A published figure, by the meter that tables of the job's stack have."""
    return MemoryRow(job, measured_bytes, shown_meter(job.stack), name)


def fit_memory(rows: Sequence[MemoryRow]) -> MemoryConstants:
    """Constants for every stack and meter that `rows` have."""
    groups: dict[tuple[str, Meter], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        groups[row.job.stack, row.meter].append((counted_bytes(row.job), row.measured_bytes))
    lines: dict[str, dict[Meter, Line]] = {}
    for (stack, meter), points in sorted(groups.items()):
        lines.setdefault(stack, {})[meter] = _line(points, meter)
    return MemoryConstants(lines)


def held_out(rows: Sequence[MemoryRow], folds: int = 2) -> list[Judged]:
    """Every row, predicted by constants that were fitted without its fold; neighbours are in different folds."""
    found = []
    for fold in range(folds):
        constants = fit_memory([row for place, row in enumerate(rows) if place % folds != fold])
        found += judge([row for place, row in enumerate(rows) if place % folds == fold], constants)
    return found


def judge(rows: Sequence[MemoryRow], constants: MemoryConstants | None = None) -> list[Judged]:
    """Predictions by these constants, or by the shipped ones."""
    return [Judged(row, estimate_memory(row.job, constants=constants).worst.by(row.meter)) for row in rows]


def mean_error(judged: Sequence[Judged]) -> float:
    """MAPE, as a share."""
    return float(np.mean([abs(each.error) for each in judged]))


def _line(points: Sequence[tuple[float, float]], meter: Meter) -> Line:
    counted, measured = (np.array(each) / 1e9 for each in zip(*points, strict=True))
    share, context = _EXPECTED[meter]
    design = np.stack([counted, np.ones_like(counted)], axis=1) / measured[:, None] / _ERROR_SD
    wanted = np.full_like(measured, 1 / _ERROR_SD)
    prior = np.diag([1 / _SHARE_SD, 1 / (_BYTES_SD / 1e9)])
    expected = np.array([share / _SHARE_SD, context / _BYTES_SD])
    weight = np.ones_like(measured)
    solution = np.array([share, context / 1e9])
    for _ in range(10):
        left = np.concatenate([design * weight[:, None], prior])
        solution = np.linalg.lstsq(left, np.concatenate([wanted * weight, expected]), rcond=None)[0]
        off = np.abs(design @ solution - wanted)
        weight = np.sqrt(np.minimum(1.0, _FAR / np.maximum(off, 1e-9)))
    errors = np.sort(np.abs(measured / (counted * solution[0] + solution[1]) - 1))
    # the quantile that holds for a row that was not fitted (split conformal's), with what is expected of few rows
    place = min(len(errors) - 1, int(np.ceil((len(errors) + 1) * COVERAGE)) - 1)
    deviation = max(float(errors[place]), _ERROR_SD * 1.64 * (len(errors) < 10))
    return Line(round(float(solution[0]), 4), round(float(solution[1]) * 1e9), round(deviation, 4))
