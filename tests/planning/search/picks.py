"""How good the model's choice is where several layouts were measured: what its pick lost against the best of them.

Runs are of one choice if they are of one model, one number of accelerators and one batch. A layout that was measured
more than once counts with the mean of its times.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from megalith.job import Job
from megalith.planning.calibration.published_runs import Row
from megalith.planning.performance import predict_step


@dataclass(frozen=True)
class Pick:
    """One choice among measured layouts."""

    measured: Mapping[Job, float]
    """Seconds of a step."""
    predicted: Mapping[Job, float]

    @property
    def picked(self) -> Job:
        return min(self.predicted, key=self.predicted.__getitem__)

    @property
    def best(self) -> Job:
        return min(self.measured, key=self.measured.__getitem__)

    @property
    def regret(self) -> float:
        """How much slower the pick was than the best, measured: 0.05 is 5 %."""
        return self.measured[self.picked] / self.measured[self.best] - 1


def picks(rows: Iterable[Row]) -> list[Pick]:
    """Every choice among the rows between two layouts or more, by the shipped constants."""
    groups: dict[tuple[object, ...], dict[tuple[object, ...], list[Row]]] = {}
    for row in rows:
        if row.measured_seconds is not None:
            job = row.job
            question = (row.dataset, job.model.model_dump_json(), job.accelerators, job.global_batch_size)
            answer = (replace(job, model=None, cluster=None),)  # type: ignore[arg-type]  # the rest is what differs
            groups.setdefault(question, {}).setdefault(answer, []).append(row)
    found = []
    for layouts in groups.values():
        if len(layouts) > 1:
            measured = {alike[0].job: statistics.fmean(_seconds(row) for row in alike) for alike in layouts.values()}
            predicted = {job: predict_step(job).seconds for job in measured}
            found.append(Pick(measured, predicted))
    return found


def _seconds(row: Row) -> float:
    assert row.measured_seconds is not None  # `picks` takes no others
    return row.measured_seconds
