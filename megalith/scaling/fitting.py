"""`megalith scaling fit`: every law that runs allow, side by side, how far to trust each, and a file for later use."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts.manifest import json_digest
from megalith.console import human_count, progress
from megalith.errors import InputError
from megalith.laws import compute_optimal
from megalith.laws.fitted import KIND, FittedForecaster, FittedLaw, FittedRange, formula_of, read_fitted
from megalith.scaling.approach_3 import LEVEL, Fit, fit_approach_3, sound
from megalith.scaling.checks import curvature_test, leave_largest_out, profile_e
from megalith.scaling.envelope import curves_of, fit_approach_1
from megalith.scaling.forecast_error import with_errors
from megalith.scaling.forecasters import choose_forecaster
from megalith.scaling.isoflop import fit_approach_2
from megalith.scaling.kaplan import fit_kaplan
from megalith.scaling.parametric import ChinchillaLaw
from megalith.scaling.points import Points
from megalith.scaling.power_law import CURVED, quantiles
from megalith.scaling.repetition import fit_repetition, is_one_size
from megalith.scaling.runs import Runs, facts_of, read_runs

_KEPT_DRAWS = 400  # in a law's file
_OUTLYING = 10.0  # median absolute residuals
_OTHER_RESAMPLES = 200  # for N by another convention


def fit(
    runs: Path,
    *,
    resamples: int = 1000,
    seed: int = 0,
    pin_e: float | None = None,
    only: Sequence[str] = (),
    drop_highest: int = 0,
    parameters: str | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Fit every law to the runs; the keys are those of `--json`. `output` is the file for the law.

    Runs of one size that repeat their tokens show R_D* alone: `approach` is then None, and `E`, `B` and `beta` are
    those of E + B/D^β.

    Raises InputError on bad runs, and where approach 3 cannot be fitted; what another approach refuses is said in its
    place.
    """
    read = read_runs(runs, only=only, drop_highest=drop_highest, parameters=parameters)
    if is_one_size(read.points) and _repeats(read.points):
        return _of_one_size(read, output, seed)
    found, law = fit_runs(read, resamples=resamples, seed=seed, pin_e=pin_e)
    if output is not None:
        write_law(output, law)
        found["law"] = str(output)
    return found


def _of_one_size(runs: Runs, output: Path | None, seed: int) -> dict[str, Any]:
    if output is not None:
        raise InputError(
            f"these runs are of one size ({human_count(float(runs.points.parameters[0]))} parameters): they show what "
            "repeated tokens are worth, and no law for other sizes.",
            where=str(output),
            mend="Leave out --output, or add runs of other sizes.",
        )
    found = fit_repetition(runs.points, seed=seed)
    constants = formula_of(found.theta)
    return {
        "approach": None, "runs": facts_of(runs), "points": len(runs.points), "E": constants.E, "B": constants.B,
        "beta": constants.beta, "repetition": found.facts(), "warnings": list(runs.warnings()),
    }  # fmt: skip


def fit_runs(
    runs: Runs, *, resamples: int = 1000, seed: int = 0, pin_e: float | None = None
) -> tuple[dict[str, Any], FittedLaw]:
    """The figures and the law of runs that are read."""
    points = _one_epoch(runs.points)
    with progress() as display:
        task = display.add_task("fitting", total=7)

        def step(name: str) -> None:
            display.update(task, description=name)
            display.advance(task)

        step("approach 3")
        third = fit_approach_3(points, resamples=resamples, seed=seed, pinned_e=pin_e)
        step("held-out runs")
        held_out = leave_largest_out(points, pinned_e=pin_e, seed=seed)
        step("forecasters")
        choice = choose_forecaster(points)
        forecaster = with_errors(choice, points, resamples=min(resamples, _KEPT_DRAWS), seed=seed)
        step("approaches 1 and 2")
        others = {
            "approach_1": _or_why(
                lambda: fit_approach_1(_curves(runs, points), resamples=resamples, seed=seed).facts()
            ),
            "approach_2": _or_why(lambda: fit_approach_2(points, resamples=resamples, seed=seed).facts()),
        }
        step("Kaplan's law")
        others["kaplan"] = _or_why(lambda: fit_kaplan(points, resamples=min(resamples, 400), seed=seed).facts())
        repetition = _or_why(lambda: fit_repetition(runs.points, seed=seed).facts()) if _repeats(runs.points) else None
        step("curvature")
        bend = curvature_test(points, third, seed)
        step("conventions of N")
        conventions = _conventions(runs, third, seed)
    found: dict[str, Any] = {
        "approach": 3,
        **_constants(third),
        "a": third.a,
        "level": LEVEL,
        "runs": facts_of(runs),
        "bootstrap_intervals": _bootstrap_intervals(third),
        "profile_E": None if third.pinned_E else profile_e(points, third),
        "residuals": _residuals(points, third),
        "held_out": [vars(one) for one in held_out],
        "forecast": {
            **choice.facts(),
            "noise": forecaster.noise,
            "misfit_per_decade": forecaster.misfit_per_decade,
        },
        **others,
        "curvature": bend,
        "repetition": repetition,
        "conventions": conventions,
        "fitted_runs": np.stack([points.parameters, points.tokens, points.flops, points.loss], axis=1).tolist(),
        "path": _path(points, third, others),
    }
    found["warnings"] = [*runs.warnings(), *_warnings(found)]
    lost = len(third.draws) - len(sound(third.draws))
    if lost:
        found["warnings"].append(f"{lost} of {len(third.draws)} bootstraps follow no law: the runs hardly show one")
    return found, _law(runs, points, third, forecaster, repetition)


def _path(points: Points, third: Fit, others: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The optimal N by each law from a third of the least FLOPs to thirty times the most."""
    flops = np.geomspace(points.flops.min() / 3, points.flops.max() * 30, 40)
    draws = [formula_of(draw) for draw in sound(third.draws)[:_KEPT_DRAWS]]

    def by_power_law(name: str, c: float) -> float | None:
        a = others[name].get("a")
        return None if a is None else float(a["centre"] * (c / a["centre_flops"]) ** a["exponent"])

    kaplan = others["kaplan"].get("path")
    return [
        {
            "flops": float(c),
            "approach_3": third.formula.optimal_parameters(float(c)),
            "interval": list(quantiles(np.array([draw.optimal_parameters(float(c)) for draw in draws]), LEVEL))
            if draws
            else None,
            "approach_2": by_power_law("approach_2", float(c)),
            "approach_1": by_power_law("approach_1", float(c)),
            "kaplan": None if kaplan is None else float(kaplan["scale"] * c ** kaplan["exponent"]),
            "kaplan_published": compute_optimal(float(c), "kaplan").parameters,
        }
        for c in flops
    ]


def write_law(path: Path, law: FittedLaw) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(law.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def check_digest(path: Path) -> FittedLaw:
    """The law of a file, whose content fits its digest. Raises InputError where it was changed."""
    law = read_fitted(path)
    if _digest(law) != law.digest:
        raise InputError(
            "this law was changed after it was fitted: its content does not fit its digest.",
            where=str(path),
            mend="Use `megalith scaling fit --output` again.",
        )
    return law


def _constants(third: Fit) -> dict[str, Any]:
    names = ("E", "A", "B", "alpha", "beta", "objective", "points", "start_agreement", "intervals", "fit_seconds")
    return {name: getattr(third, name) for name in names}


def _bootstrap_intervals(third: Fit) -> dict[str, tuple[float, float]] | None:
    from megalith.scaling.approach_3 import figures, widened

    return widened(figures(third.theta[None]), figures(third.draws), {}) if len(third.draws) else None


def _one_epoch(points: Points) -> Points:
    """The runs whose tokens do not repeat, where they are enough; a law of one epoch is fitted to them."""
    fresh = points.epochs <= 1.001
    return points[fresh] if fresh.sum() >= 8 else points


def _repeats(points: Points) -> bool:
    return bool((points.epochs > 1.001).any())


def _curves(runs: Runs, points: Points) -> Sequence[Any]:
    """Final losses by size where sizes have several lengths; else the training curves."""
    finished = curves_of(points)
    return finished if len(finished) >= 4 or not runs.curves else runs.curves


def _or_why(fit: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or under `refused` the reason why there are none."""
    try:
        return fit()
    except InputError as error:
        return {"refused": str(error)}


def _conventions(runs: Runs, third: Fit, seed: int) -> list[dict[str, Any]]:
    """a by approaches 2 and 3 for N by each convention of the source."""
    rows = []
    for kind in runs.counts:
        points = _one_epoch(runs.counted(kind).points)
        own = third if kind == runs.parameters_counted else _other_fit(points, seed)
        second = _or_why(partial(_second_exponent, points))
        rows.append({
            "parameters": kind,
            "a": None if own is None else own.a,
            "interval": None if own is None or own.intervals is None else list(own.intervals["a"]),
            "approach_2_a": second.get("exponent"),
            "approach_2_interval": second.get("interval"),
        })  # fmt: skip
    return rows


def _other_fit(points: Points, seed: int) -> Fit | None:
    try:
        return fit_approach_3(points, resamples=_OTHER_RESAMPLES, seed=seed)
    except InputError:
        return None


def _second_exponent(points: Points) -> dict[str, Any]:
    return fit_approach_2(points).parameters.facts()


def _residuals(points: Points, third: Fit) -> dict[str, Any]:
    """Residuals of log L: their size, and the runs that stand far off."""
    residual = points.log_loss - ChinchillaLaw.of(points)(third.theta[None])[0][0]
    middle = float(np.median(np.abs(residual)))
    far = np.flatnonzero(np.abs(residual) > _OUTLYING * max(middle, 1e-12))
    return {
        "median": middle,
        "deviation": float(residual.std()),
        "largest": float(residual[np.abs(residual).argmax()]),
        "outlying": [
            {"parameters": float(points.parameters[i]), "tokens": float(points.tokens[i]),
             "loss": float(points.loss[i]), "residual": float(residual[i])}
            for i in far[np.argsort(-np.abs(residual[far]))][:20]
        ],
        "outlying_runs": len(far),
    }  # fmt: skip


def _warnings(found: dict[str, Any]) -> list[str]:
    said = []
    bend = found["curvature"]
    if bend["p"] < CURVED and bend["gain"] > 0:
        said.append(
            f"terms that bend foretell held-out runs better by {bend['gain']:.0%} of the objective "
            f"(p = {bend['p']:.2g}): beyond these runs the power laws may not hold"
        )
    for name in ("approach_1", "approach_2"):
        p = found[name].get("a", {}).get("curvature_p")
        if p is not None and p < CURVED:
            said.append(f"{name.replace('_', ' ')}: the optimal N bends over C (p = {p:.2g})")
    if found["approach_1"].get("unfinished"):
        said.append(
            "approach 1 reads training curves, whose learning rate had not fallen yet: its optima are those of "
            "unfinished runs"
        )
    if found["residuals"]["outlying_runs"]:
        said.append(
            f"{found['residuals']['outlying_runs']} runs stand more than {_OUTLYING:g} median residuals off the law "
            "(--drop-highest leaves out the highest losses)"
        )
    if found["start_agreement"] < 0.2:
        said.append(f"only {found['start_agreement']:.0%} of the starts reach the best fit")
    return said


def _law(
    runs: Runs, points: Points, third: Fit, forecaster: FittedForecaster, repetition: dict[str, Any] | None
) -> FittedLaw:
    def span(values: Any) -> tuple[float, float]:
        return float(values.min()), float(values.max())

    stars = None
    if repetition and "refused" not in repetition and repetition["R_N"] is not None:
        stars = (repetition["R_D"], repetition["R_N"])
    law = FittedLaw(
        kind=KIND,
        name="L = E + A/N^α + B/D^β",
        source=runs.described(),
        theta=tuple(third.theta.tolist()),
        draws=tuple(map(tuple, sound(third.draws)[:_KEPT_DRAWS].tolist())),
        fitted=FittedRange(
            parameters=span(points.parameters), tokens=span(points.tokens), flops=span(points.flops),
            loss=span(points.loss),
        ),
        forecaster=forecaster,
        parameters_counted=runs.parameters_counted,
        loss_unit=runs.loss_unit,
        vocab_size=runs.vocab_size,
        repeated=stars,
        digest="",
    )  # fmt: skip
    return law.model_copy(update={"digest": _digest(law)})


def _digest(law: FittedLaw) -> str:
    return json_digest(law.model_dump(mode="json", exclude={"digest"}))
