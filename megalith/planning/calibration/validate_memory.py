"""The memory model against a table: how far off where a figure was published, and what it says of runs that failed."""

import statistics
from collections.abc import Sequence
from typing import Any

from megalith.errors import MegalithError
from megalith.planning.calibration.memory_figures import predicted_figure
from megalith.planning.calibration.published_runs import Row
from megalith.planning.performance.memory import estimate_memory, fits


def memory_figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a dataset: errors where memory was published, out-of-memory runs foreseen, and false alarms."""
    found = []
    for name in dict.fromkeys(row.dataset for row in rows):
        own = [row for row in rows if row.dataset == name]
        errors, foreseen, failed, alarms, ran = [], 0, 0, 0, 0
        for row in own:
            try:
                held = estimate_memory(row.job)
                over = not fits(row.job, held)
            except MegalithError:  # a job that the model does not know
                continue
            if row.out_of_memory:
                failed, foreseen = failed + 1, foreseen + over
            elif row.memory_of == "shown":  # the others are of models on paper
                ran, alarms = ran + 1, alarms + over
            if row.memory_bytes and not row.out_of_memory:
                errors.append(predicted_figure(row.job, row.memory_of, held) / row.memory_bytes - 1)
        found.append({
            "dataset": name,
            "rows": len(errors),
            "mape": statistics.fmean(map(abs, errors)) if errors else None,
            "bias": statistics.fmean(errors) if errors else None,
            "out_of_memory": failed,
            "foreseen": foreseen,
            "ran": ran,
            "false_alarms": alarms,
        })  # fmt: skip
    return found
