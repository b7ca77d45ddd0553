"""`megalith plan validate`: predictions against a table of measurements, each figure with what had been fitted for it.

Three figures a dataset: with the given constants (the shipped ones, which may have seen it: `seen`); held out, by
constants fitted to the table's other datasets from the priors alone; and the share of its measurements that their
intervals hold. Besides, each stack's models held out one at a time, since a dataset may be all there is of a stack, and
halves drawn at random. What a schedule's lists take over its closed form is told by the given constants throughout.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from megalith.arithmetic import step_flops
from megalith.planning.calibration.calibrate import HELD_OUT, LEAST_ROWS, may_be_fitted, sample_of
from megalith.planning.calibration.fit_step_time import Fit, Sample, fit
from megalith.planning.calibration.published_runs import Row, read_published, read_table
from megalith.planning.calibration.validate_memory import memory_figures
from megalith.planning.performance import Constants, constants_for, predict_step
from megalith.planning.performance.constants import PRIORS, STACK_PRIOR, read_constants, shipped

SEEDS = 5
Sets = Mapping[str, Mapping[str, Any]]


class Prediction(NamedTuple):
    """One row and what was predicted of it."""

    row: Row
    seconds: float
    interval: tuple[float, float]

    @property
    def measured(self) -> float:
        assert self.row.measured_seconds is not None  # only such rows are predicted
        return self.row.measured_seconds

    @property
    def error(self) -> float:
        """Relative, of the prediction."""
        return self.seconds / self.measured - 1

    @property
    def covered(self) -> bool:
        return self.interval[0] <= self.measured <= self.interval[1]


def validate(table: Path | None = None, constants: Path | None = None, hold_out: bool = True) -> dict[str, Any]:
    """Figures of every dataset of `table`, or of the published runs that are shipped; the keys are those of `--json`.

    `constants` is a file that `calibrate` wrote, in place of the shipped ones. Without `hold_out`, nothing is refitted.
    Datasets that the constants were told to hold out are in no refit either.

    Raises InputError where the table or the constants cannot be read.
    """
    rows, skipped = read_published() if table is None else read_table(table)
    sets = shipped() if constants is None else read_constants(constants)
    measured = [row for row in rows if row.measured_seconds is not None]
    samples = {id(row): sample_of(row, constants_for(row.job, sets)) for row in measured}
    given = [_predict(row, samples[id(row)], constants_for(row.job, sets)) for row in measured]
    kept_out = {name for one in sets.values() for name, entry in one["held_out"].items() if entry["why"] == HELD_OUT}
    refits = _Refits(measured, samples, kept_out, sets) if hold_out else None
    names = list(dict.fromkeys(row.dataset for row in measured))
    return {
        "table": "shipped" if table is None else str(table),
        "constants": {
            "from": "shipped" if constants is None else str(constants),
            "fitted": {name: dict(one["fitted"]) for name, one in sets.items()},
            "held_out": {name: dict(one["held_out"]) for name, one in sets.items()},
        },
        "datasets": [_dataset(name, given, sets, refits) for name in names],
        "stacks": _by_stack(refits) if refits else [],
        "random_half": refits.random_half() if refits else None,
        "generations": _by_generation(given, refits),
        "overall": _figures(given),
        "memory": memory_figures(rows),
        "rows": [_row(one, refits) for one in given],
        "skipped": [asdict(one) for one in skipped],
    }


def _predict(row: Row, sample: Sample, constants: Constants) -> Prediction:
    step, factor = predict_step(row.job, constants, exact=False), sample.factor
    return Prediction(row, step.seconds * factor, (step.interval[0] * factor, step.interval[1] * factor))


class _Refits:
    """Fits from the priors to parts of the table, each used for the rows that it has not seen."""

    def __init__(
        self, rows: Sequence[Row], samples: Mapping[int, Sample], kept_out: Collection[str], sets: Sets
    ) -> None:
        self.rows = rows
        self.samples = samples
        self.kept_out = kept_out
        self.sets = sets
        self.whole: Fit | None = None
        self.whole = self._fit(frozenset())
        self.datasets = {
            name: self._without([row for row in rows if row.dataset == name])
            for name in dict.fromkeys(row.dataset for row in rows)
        }
        self.held = {id(one.row): one for own in self.datasets.values() for one in own}

    def _fit(self, out: Collection[int]) -> Fit | None:
        """The fit to the rows without those in `out`, by identity; None where too few are left."""
        kept = [row for row in self.rows if may_be_fitted(row, self.kept_out) and id(row) not in out]
        if len(kept) < LEAST_ROWS:
            return None
        if self.whole is not None and len(kept) == self.whole.samples:
            return self.whole
        return fit([self.samples[id(row)] for row in kept], self.whole)

    def _without(self, chosen: Sequence[Row]) -> list[Prediction]:
        """These rows, predicted without them."""
        out = frozenset(id(row) for row in chosen)
        found = self._fit(out)
        return [_predict(row, self.samples[id(row)], self._constants(row, found)) for row in chosen]

    def _constants(self, row: Row, found: Fit | None) -> Constants:
        """Those of a fit, with the interval that the given constants have; wider for a stack that the fit never saw."""
        if found is None:
            return PRIORS[row.generation]
        given = constants_for(row.job, self.sets)
        seen = row.job.stack in found.stacks
        spread = given.spread if seen else math.hypot(given.spread, STACK_PRIOR)
        known = found.of(row.generation, row.job.stack)
        return replace(known, spread=spread, most_accelerators=given.most_accelerators)

    def models(self, stack: str) -> list[Prediction]:
        """The rows of a stack, each predicted without the rows of that stack and its model."""
        own = [row for row in self.rows if row.job.stack == stack]
        shapes = sorted({_shape(row) for row in own})
        return [one for shape in shapes for one in self._without([row for row in own if _shape(row) == shape])]

    def random_half(self) -> dict[str, Any] | None:
        """Half of the rows of the stacks with tensor or pipeline parallelism on the most frequent generation, predicted
        by the other half (and the rest of the table)."""
        counted: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.job.stack.startswith("megatron") and may_be_fitted(row, self.kept_out):
                counted[row.generation].append(row)
        if not counted:
            return None
        generation, rows = max(counted.items(), key=lambda pair: len(pair[1]))
        if len(rows) < 2 * LEAST_ROWS:
            return None
        mapes = []
        for seed in range(SEEDS):
            drawn = np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2]
            mapes.append(_mape(self._without([rows[index] for index in drawn])))
        return {
            "generation": generation,
            "datasets": sorted({row.dataset for row in rows}),
            "rows": len(rows),
            "seeds": SEEDS,
            "mape": statistics.fmean(mapes),
            "standard_deviation": statistics.stdev(mapes),
            "fitted": "the other half, and the rows of other stacks",
        }


def _shape(row: Row) -> tuple[int, int]:
    return row.job.model.hidden, row.job.model.layers


def _dataset(name: str, given: Sequence[Prediction], sets: Sets, refits: _Refits | None) -> dict[str, Any]:
    own = [one for one in given if one.row.dataset == name]
    generations = sorted({one.row.generation for one in own})
    found: dict[str, Any] = {
        "dataset": name,
        "generations": generations,
        "stacks": sorted({one.row.job.stack for one in own}),
        "rows": len(own),
        "stated_in_full": sum(one.row.stated for one in own),
        "seen": any(name in sets[generation]["fitted"] for generation in generations if generation in sets),
        **_figures(own),
        "held_out": None,
    }
    if refits is not None:
        fitted = {row.dataset for row in refits.rows if row.dataset != name and may_be_fitted(row, refits.kept_out)}
        found["held_out"] = {"fitted": sorted(fitted), **_figures(refits.datasets[name])}
    if len(generations) > 1:
        found["by_generation"] = [
            {
                "generation": generation,
                **_figures([one for one in own if one.row.generation == generation]),
                "held_out": None
                if refits is None
                else _figures([one for one in refits.datasets[name] if one.row.generation == generation]),
            }
            for generation in generations
        ]
    return found


def _by_generation(given: Sequence[Prediction], refits: _Refits | None) -> list[dict[str, Any]]:
    """Figures of each generation, and of its runs in fp8 apart; `held_out` has each dataset predicted by the others."""
    found = []
    groups: dict[tuple[str, bool], list[Prediction]] = defaultdict(list)
    for one in given:
        groups[one.row.generation, one.row.job.fp8 is not None].append(one)
    for (generation, fp8), own in sorted(groups.items()):
        held = None if refits is None else _figures([refits.held[id(one.row)] for one in own])
        name = f"{generation}, fp8" if fp8 else generation
        found.append({"generation": name, "rows": len(own), **_figures(own), "held_out": held})
    return found


def _by_stack(refits: _Refits) -> list[dict[str, Any]]:
    """Each stack with its models held out one at a time."""
    counts: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for row in refits.rows:
        counts[row.job.stack].add(_shape(row))
    families: dict[str, list[Prediction]] = defaultdict(list)
    found = []
    for stack, shapes in sorted(counts.items()):
        if len(shapes) < 2 or stack.startswith("megatron"):  # Megatron's have whole datasets to hold out
            continue
        predictions = refits.models(stack)
        families[stack.partition("-")[0]] += predictions
        generations = sorted({one.row.generation for one in predictions})
        found += [_held_models(stack, generation, predictions) for generation in generations]
    for family, predictions in families.items():
        if sum(one["stack"].partition("-")[0] == family for one in found) > 1:
            found.append(_held_models(f"{family}, all", "all", predictions))
    return found


def _held_models(name: str, generation: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    own = [one for one in predictions if generation in ("all", one.row.generation)]
    return {
        "stack": name,
        "generation": generation,
        "held_out": "one model at a time",
        "rows": len(own),
        **_figures(own),
    }


def _figures(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Errors of predictions, and how well they order the runs; None where there are too few to say."""
    if not predictions:
        return {"mape": None, "bias": None, "rank_correlation": None, "coverage": None}
    errors = [one.error for one in predictions]
    return {
        "mape": _mape(predictions),
        "median_error": statistics.median(abs(error) for error in errors),
        "bias": statistics.fmean(errors),
        "rank_correlation": _ranks([(one.seconds, one.measured) for one in predictions]),
        "rank_correlation_of_speed": _ranks(
            [(_speed(one.row, one.seconds), _speed(one.row, one.measured)) for one in predictions]
        ),
        "coverage": statistics.fmean(one.covered for one in predictions),
    }


def _mape(predictions: Sequence[Prediction]) -> float:
    return statistics.fmean(abs(one.error) for one in predictions)


def _speed(row: Row, seconds: float) -> float:
    """FLOP/s of an accelerator: what tells a good layout from a bad one, whatever the model's size."""
    return step_flops(row.job.model, row.job.global_batch_size) / seconds / row.job.accelerators


def _ranks(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, of (predicted, measured)."""
    predicted, measured = zip(*pairs, strict=True)
    if len(pairs) < 3 or len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    found = float(spearmanr(predicted, measured).statistic)
    return None if math.isnan(found) else found


def _row(one: Prediction, refits: _Refits | None) -> dict[str, Any]:
    held = None if refits is None else refits.held[id(one.row)]
    return {
        "dataset": one.row.dataset,
        "row_id": one.row.row_id,
        "stack": one.row.job.stack,
        "cluster": one.row.job.cluster.name,
        "stated_in_full": one.row.stated,
        "measured_from": one.row.measured_from,
        "measured_seconds": one.measured,
        "predicted_seconds": one.seconds,
        "interval": list(one.interval),
        "within": one.covered,
        "error": one.error,
        "held_out_seconds": held.seconds if held else None,
        "held_out_error": held.error if held else None,
    }
