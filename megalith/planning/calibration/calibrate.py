"""`megalith plan calibrate`: the constants of the cost model from a table of measured steps.

For each generation of accelerators with enough rows, one set of constants and a multiplier for each software stack, the
most probable given all rows and priors (`fit_step_time`). The interval of a prediction comes from rows that were held
out: a whole dataset where another one has the same stack, else one in FOLDS of its models. The file says what was
fitted, what was held out and why.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.artifacts import Workspace
from megalith.errors import InputError, RecipeError
from megalith.job import Job
from megalith.planning.calibration.fit_step_time import Fit, Sample, fit
from megalith.planning.calibration.published_runs import Row, read_table
from megalith.planning.performance import predict_step
from megalith.planning.performance.constants import (
    COVERAGE,
    OWN_SPREADS,
    OWN_STACK_SPREAD,
    PRIORS,
    SCHEMA,
    SHARED_SPREADS,
    UNITS,
    Constants,
    normal_quantile,
)
from megalith.planning.performance.stacks import stack_of

LEAST_ROWS = 4
FOLDS = 5
LISTS_PLAYED = 12_000  # actions, beyond which the schedule's closed form stands for its lists
HELD_OUT = "held out as asked"
OPEN = "the layout, or what its TFLOP/s count, is not stated in full"


def calibrate(table: Path, output: Path, hold_out: Collection[str] = ()) -> dict[str, Any]:
    """Fit the constants to `table`, write them to `output` (whole or not at all) and return what was written.

    Rows of the datasets in `hold_out`, and rows whose layout is not stated in full, are not fitted.

    Raises InputError where the table cannot be read, has no dataset of a name in `hold_out`, or has LEAST_ROWS rows of
    no generation.
    """
    rows, skipped = read_table(table)
    known = dict.fromkeys([row.dataset for row in rows] + [row.dataset for row in skipped])
    for name in hold_out:
        if name not in known:
            raise InputError(
                f"the table has no dataset {name}.", where="--hold-out", mend=f"It has {', '.join(known)}."
            )
    sets = calibrate_rows(rows, hold_out)
    if not sets:
        raise InputError(
            f"fewer than {LEAST_ROWS} measured runs of any one kind of accelerator are stated in full.",
            where=str(table),
            mend="Add runs; until then, use the shipped constants.",
        )
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    record = {"schema": SCHEMA, "table": table.name, "table_sha256": digest, "sets": sets}
    output.parent.mkdir(parents=True, exist_ok=True)
    Workspace(output.parent).write_json(output.name, record)
    return record


def calibrate_rows(rows: Sequence[Row], hold_out: Collection[str] = ()) -> list[dict[str, Any]]:
    """One set of constants for each generation of accelerators that has enough rows; all are fitted together."""
    measured = [row for row in rows if row.measured_seconds is not None]
    fitted = [row for row in measured if may_be_fitted(row, hold_out)]
    if not fitted:
        return []
    samples = [sample_of(row, PRIORS[row.generation]) for row in fitted]
    whole = fit(samples)
    errors = held_out_errors(samples, whole)
    sets = []
    for generation in sorted({sample.generation for sample in samples}):
        own = [
            (sample, error) for sample, error in zip(samples, errors, strict=True) if sample.generation == generation
        ]
        if len(own) >= LEAST_ROWS:
            left = [row for row in measured if row.generation == generation and not may_be_fitted(row, hold_out)]
            sets.append(_set(generation, whole, own, _why_left(left, hold_out)))
    return sets


def may_be_fitted(row: Row, hold_out: Collection[str]) -> bool:
    """Whether constants may see this row."""
    return row.stated and row.measured_seconds is not None and row.dataset not in hold_out


def sample_of(row: Row, constants: Constants) -> Sample:
    """A measured row as the fit takes it, with what the schedule's lists make of its closed form by these constants."""
    assert row.measured_seconds is not None  # only such rows are fitted, or predicted
    return Sample(row.job, row.measured_seconds, row.dataset, list_factor(row.job, constants))


def list_factor(job: Job, constants: Constants) -> float:
    """The step by the schedule's lists over that by its closed form; other constants hardly change it.

    1 where the lists are long or cannot be built, and where the closed form is as good.
    """
    stages = job.layout.pipeline * job.virtual_stages
    easy = job.schedule in ("1f1b", "gpipe") and stack_of(job.stack).blocking_sends
    long = 2 * stages * min(job.micro_batches, max(96, 2 * job.layout.pipeline)) >= LISTS_PLAYED
    if easy or long or job.layout.pipeline == 1:
        return 1.0
    try:
        return predict_step(job, constants).seconds / predict_step(job, constants, exact=False).seconds
    except RecipeError:  # a batch that the schedule does not take: the closed form does
        return 1.0


def held_out_errors(samples: Sequence[Sample], whole: Fit) -> list[float]:
    """log(predicted / measured) of each sample by a fit that has not seen it, as the module says."""
    errors: dict[int, float] = {}
    stacks: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        stacks[sample.job.stack].add(sample.dataset)
    for dataset in sorted({sample.dataset for sample in samples}):
        out = [n for n, one in enumerate(samples) if one.dataset == dataset and len(stacks[one.job.stack]) > 1]
        errors |= _errors_without(out, samples, whole)
    rest = [n for n in range(len(samples)) if n not in errors]
    models = sorted({_model_key(samples[n]) for n in rest})
    for fold in range(FOLDS):
        chosen = set(models[fold::FOLDS])
        out = [n for n in rest if _model_key(samples[n]) in chosen]
        errors |= _errors_without(out, samples, whole)
    return [errors[n] for n in range(len(samples))]


def _errors_without(out: Sequence[int], samples: Sequence[Sample], whole: Fit) -> dict[int, float]:
    if not out:
        return {}
    hidden = set(out)
    without = fit([sample for n, sample in enumerate(samples) if n not in hidden], whole)
    return {n: without.log_error(samples[n]) for n in out}


def _model_key(sample: Sample) -> tuple[int, int, int]:
    model = sample.job.model
    return model.hidden, model.layers, model.heads


def _set(generation: str, whole: Fit, own: Sequence[tuple[Sample, float]], left: Mapping[str, Any]) -> dict[str, Any]:
    """The set of a generation, from the fit to all and its samples with their held-out errors."""
    errors = [error for _, error in own]
    everything = spread_of(errors)
    most = max(sample.job.accelerators for sample, _ in own)
    stacks = {stack: _stack(generation, stack, whole, own, everything) for stack in sorted(whole.stacks)}
    # each stack's spread leans on the generation's, which one stack may have made wide: together they hold COVERAGE
    scale = spread_of([error / stacks[sample.job.stack]["spread"] for sample, error in own])
    for entry in stacks.values():
        entry["spread"] *= scale
    return {
        "schema": SCHEMA,
        "name": f"published {generation}",
        "generation": generation,
        "constants": {
            name: {
                "value": getattr(whole.generations[generation], name),
                "unit": UNITS[name],
                "prior": getattr(PRIORS[generation], name),
                "shared_log_shift": whole.shared[name],
                "shared_log_spread": SHARED_SPREADS[name],
                "own_log_spread": OWN_SPREADS[name],
            }
            for name in SHARED_SPREADS
        },
        "stacks": stacks,
        "most_accelerators": most,
        "residuals": {
            "what": "log(predicted / measured) of rows that the fit had not seen",
            "coverage": COVERAGE,
            "spread": everything * scale,
            "bias": sum(errors) / len(errors),
            "mape": sum(abs(math.expm1(error)) for error in errors) / len(errors),
        },
        "fitted": dict(sorted(Counter(sample.dataset for sample, _ in own).items())),
        "held_out": left,
    }


def _stack(
    generation: str, stack: str, whole: Fit, own: Sequence[tuple[Sample, float]], pooled: float
) -> dict[str, Any]:
    """A stack's multiplier on a generation; one seen on others alone has theirs, and a wider interval."""
    seen = [(sample, error) for sample, error in own if sample.job.stack == stack]
    errors = [error for _, error in seen]
    return {
        "multiplier": whole.of(generation, stack).stack,
        "rows": len(seen),
        "spread": spread_of(errors, pooled) if errors else math.hypot(pooled, OWN_STACK_SPREAD),
        "most_accelerators": max(sample.job.accelerators for sample, _ in seen or own),
    }


def _why_left(left: Sequence[Row], hold_out: Collection[str]) -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in left:
        why = HELD_OUT if row.dataset in hold_out else OPEN
        found.setdefault(row.dataset, {"rows": 0, "why": why})["rows"] += 1
    return dict(sorted(found.items()))


def spread_of(errors: Sequence[float], pooled: float | None = None) -> float:
    """The standard deviation that a normal error with the same share of COVERAGE would have; `pooled`, where given,
    counts as much as a few rows, since a stack may have hardly any."""
    ordered = sorted(abs(error) for error in errors)
    place = min(len(ordered), math.ceil((len(ordered) + 1) * COVERAGE)) - 1
    own = ordered[place] / normal_quantile(COVERAGE)
    if pooled is None:
        return own
    few = 6.0
    return math.sqrt((len(ordered) * own**2 + few * pooled**2) / (len(ordered) + few))
