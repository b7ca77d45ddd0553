"""The cost of training, before it is spent: each verb of `megalith plan`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from megalith.errors import InputError, UnsupportedError
from megalith.recipe import Overrides, Recipe, load_recipe
from megalith.verbs.arguments import Place, RecipeSource, check_file, load, path
from megalith.verbs.results import (
    Budget,
    ClusterLayout,
    DryRun,
    LocalLayout,
    MeasuredLayouts,
    RankMap,
    StepExplained,
    StepTimeline,
    Validation,
)

if TYPE_CHECKING:
    from megalith.planning.curation import CurationCost


def plan_layout(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    objective: Literal["time", "memory", "gpus"] = "time",
    deadline: float | None = None,
    price: float | None = None,
    keep: bool = False,
    measured: Place | None = None,
    constants: Place | None = None,
) -> ClusterLayout | LocalLayout | MeasuredLayouts:
    """The best layout for the model on the recipe's machines, and why the others lost.

    On a cluster: `objective` is the shortest step, the least memory, or the fewest GPUs within `deadline` days; `price`
    is that of one GPU for an hour; `keep` keeps what the recipe's file says of the layout (overrides always stay);
    `constants` is a file of `plan_calibrate`. On this machine layouts are measured, or predicted from the file
    `measured`.
    """
    from megalith.planning.layout import layout
    from megalith.planning.search import kept

    loaded, origins = load_recipe(recipe, overrides)
    if measured is not None:
        others = (objective != "time", deadline, price, keep, constants)
        return cast(MeasuredLayouts, _from_file(loaded, Path(measured), others))
    found = layout(
        loaded,
        keep=kept(loaded, origins, written=keep),
        objective=objective,
        deadline_days=deadline,
        price=price,
        constants=path(constants),
    )
    return cast(ClusterLayout, found) if "cluster" in found else cast(LocalLayout, found)


def _from_file(loaded: Recipe, measured: Path, others: tuple[object, ...]) -> dict[str, Any]:
    from megalith.planning.measuring.verbs import layouts_here
    from megalith.topology import LOCAL

    if any(others) or loaded.cluster.name != LOCAL:
        raise UnsupportedError(
            "a measured file is of this machine, of which it predicts the step alone.",
            where="--measured",
            mend="Remove --for, --deadline, --price, --keep and --constants, and set cluster.name=local.",
        )
    return layouts_here(loaded, measured)


def plan_budget(
    flops: float | None = None,
    recipe: RecipeSource | None = None,
    *,
    overrides: Overrides = (),
    gpu_hours: float | None = None,
    cluster: str | None = None,
    nodes: int | None = None,
    law: Sequence[str] = (),
    tokens_available: float | None = None,
    inference_tokens: float | None = None,
    from_run: Place | None = None,
) -> Budget:
    """Compute-optimal parameters, tokens and loss by each law: for FLOPs, for a recipe's budget, or for GPU-hours.

    `gpu_hours` is of one GPU of `cluster`, in all; `nodes` is by default as many as end in about a month. `law` are
    files of `scaling_fit`, shown beside the published ones. With `tokens_available` the optimum that repeats them; with
    `inference_tokens` the smaller model that costs least in training and inference; `from_run` is an expedition whose
    training is under way: its loss at the end is foretold, and when it may stop.
    """
    if from_run is not None:
        others = (flops, recipe, overrides, gpu_hours, cluster, nodes, law, tokens_available, inference_tokens)
        if any(one not in (None, ()) for one in others):
            raise UnsupportedError("a run in flight has its own budget.", where="--from", mend="Use --from alone.")
        return cast(Budget, {"laws": [], "run": _in_flight(Path(from_run))})
    found = _budget(flops, recipe, overrides, gpu_hours, cluster, nodes, tuple(law))
    if tokens_available is not None or inference_tokens is not None:
        from megalith.planning.deviations import with_deviations

        found = with_deviations(found, tokens_available, inference_tokens)
    return cast(Budget, found)


def _in_flight(directory: Path) -> dict[str, Any]:
    """The forecast of the training under way, or done, in an expedition's directory."""
    import json

    import numpy as np

    from megalith.input_files import read_model, read_text
    from megalith.scaling.in_flight import Curve, forecast_run
    from megalith.training.lr_schedule import learning_rate

    logs = [directory / name / "logs" / "metrics.jsonl" for name in (".train.partial", "train")]
    metrics = next((path for path in logs if path.is_file()), None)
    plan = directory / "plan" / "recipe.json"
    if metrics is None or not plan.is_file():
        raise InputError(
            "no training is under way here, or its plan is missing.",
            where=str(directory),
            mend="Use the directory (--output) of `megalith run` or `megalith train`.",
        )
    recipe = read_model(plan, Recipe)
    rows = [json.loads(line) for line in read_text(metrics).splitlines() if line.endswith("}")]
    by_step = {row["step"]: row for row in rows if row.get("loss") is not None and "learning_rate" in row}
    steps = [by_step[step] for step in sorted(by_step)]
    made = [float(row["tokens"]) for row in steps]
    if len(made) < 2 or recipe.train.tokens is None:
        raise InputError("this run has hardly begun.", where=str(metrics), mend="Use --from again later.")
    size = made[-1] - made[-2]
    tokens = [*made, *np.arange(made[-1] + size, recipe.train.tokens + size / 2, size)]
    rates = [learning_rate(recipe.train, int(one)) for one in tokens]
    return forecast_run(Curve(np.array(tokens), np.array(rates), np.array([row["loss"] for row in steps], dtype=float)))


def _budget(
    flops: float | None,
    recipe: RecipeSource | None,
    overrides: Overrides,
    gpu_hours: float | None,
    cluster: str | None,
    nodes: int | None,
    laws: tuple[str, ...],
) -> dict[str, Any]:
    """The budget in whichever form it is asked for."""
    from megalith.planning.budget import budget, budget_of, budget_on_cluster

    hours = {"--gpu-hours": gpu_hours, "--cluster": cluster, "--nodes": nodes}
    _refuse_both(hours, {"--flops": flops, f"the recipe {recipe}": recipe})
    if gpu_hours is not None and cluster is not None:
        return budget_on_cluster(gpu_hours, cluster, nodes, fitted=laws)
    if flops is not None:
        return budget(flops, fitted=laws)
    if recipe is not None:
        return budget_of(load(recipe, overrides), laws)
    raise UnsupportedError(
        "a budget is missing.",
        mend="Use --flops 1e21, --gpu-hours H --cluster NAME, or a recipe that has budget.flops or budget.hours.",
    )


def _refuse_both(hours: Mapping[str, object], flops: Mapping[str, object]) -> None:
    """Raise UnsupportedError where options of both kinds of budget are given, or half of that in GPU-hours."""
    of_hours, of_flops = ([name for name, value in kind.items() if value is not None] for kind in (hours, flops))
    if not of_hours or (not of_flops and {"--gpu-hours", "--cluster"} <= set(of_hours)):
        return
    whole = "--gpu-hours H --cluster NAME"
    if not of_flops:
        raise UnsupportedError("GPU-hours are of a cluster, and nodes too.", mend=f"Use {whole}, both of them.")
    given, instead = " and ".join(of_hours), " and ".join(of_flops)
    raise UnsupportedError(
        f"GPU-hours on a cluster take the place of FLOPs, and here are both: {given}, and {instead}.",
        mend=f"Remove {given}; or remove {instead} and use {whole}.",
    )


def plan_curation(*, text: float = 0.0, warc: float = 0.0, documents: float | None = None) -> "CurationCost":
    """CPU-hours, disk and memory that curating a corpus takes, extrapolated from small runs.

    `text` is bytes of JSON lines and `warc` of HTML in WARC, both unpacked; `documents` is by default what the measured
    corpora have in as many bytes.
    """
    from megalith.planning.curation import predict_curation

    return predict_curation(text_bytes=text, warc_bytes=warc, documents=documents)


def plan_ranks(recipe: RecipeSource, *, overrides: Overrides = ()) -> RankMap:
    """Which node holds which ranks, and what they send over which links in a step."""
    from megalith.planning.rank_map import ranks

    return cast(RankMap, ranks(load(recipe, overrides)))


def plan_dryrun(
    recipe: RecipeSource, *, overrides: Overrides = (), rank: Sequence[int] = (), stages: bool = False
) -> DryRun:
    """The real training step of any `rank` of the job, on tensors without memory: its peak, and what it sends.

    `stages` takes the first, the middle and the last stage.
    """
    from megalith.planning.dryrun import dryrun

    return cast(DryRun, dryrun(load(recipe, overrides), rank, stages=stages))


def plan_timeline(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    schedule: Sequence[str] = (),
    durations: str | None = None,
    output: Place | None = None,
) -> StepTimeline:
    """One training step by each schedule (a name or a CSV file): who computes, sends and waits when.

    `durations` are milliseconds of a rank's forward, input and weight gradient, and of a send ("10,11,9,1"), or "unit".
    `output` is a .png, .svg, .html or .json (trace) file, or a directory for all four; nothing is drawn without it.
    """
    from megalith.planning import timeline

    loaded = load(recipe, overrides)
    given = timeline.given_durations(durations) if durations is not None else None
    steps = timeline.steps_of(loaded, schedule, given)
    figures = timeline.figures(loaded, steps)
    files = timeline.write_timeline(Path(output), timeline.title(loaded), steps) if output is not None else []
    return cast(StepTimeline, {**figures, "files": [str(file) for file in files]})


def plan_explain(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    beside: Sequence[str] = (),
    output: Place | None = None,
    constants: Place | None = None,
) -> StepExplained:
    """A layout's step taken apart, from ideal FLOPs to the predicted seconds; and those `beside` it.

    Each of `beside` is overrides with spaces between them, on top of `overrides`, or "best". A recipe that leaves its
    layout open has the best one. `output` is a .svg or .html file, `constants` a file of `plan_calibrate`.
    """
    from megalith.planning.waterfall import explain_layouts, write_waterfalls

    falls, found = explain_layouts(recipe, overrides, beside, path(constants))
    name = load_recipe(recipe, overrides)[0].name
    title = f"A step of {name} on {falls[0].job.accelerators:,} "
    title += falls[0].job.cluster.accelerator
    drawn = None if output is None else write_waterfalls(Path(output), title, falls)
    return cast(StepExplained, {"recipe": name, **found, "file": None if drawn is None else str(drawn)})


def plan_validate(runs: Place | None = None, *, constants: Place | None = None, hold_out: bool = True) -> Validation:
    """Predictions against a table of measured runs, and of each dataset by the others alone (with `hold_out`).

    The table is by default that of MT-NLG 530B's published runs.
    """
    from megalith.planning.calibration.validate import validate

    return cast(Validation, validate(path(runs), path(constants), hold_out=hold_out))


def plan_calibrate(
    runs: Place | None = None,
    *,
    output: Place | None = None,
    measure: bool = False,
    recipe: RecipeSource = "quickstart",
    hold_out: Sequence[str] = (),
    memory: bool = False,
) -> dict[str, Any]:
    """Fit the cost model's constants to a table of runs, or measure this machine, into the file `output`.

    `measure` measures blocks of the width of `recipe`; a folder of runs that have ended here corrects them. `output` is
    constants.json for a table, here.json for this machine. `hold_out` names datasets that are not to be fitted.
    `memory` fits the memory model's constants to the rows with mem_gb instead, into memory.json.
    """
    table = path(runs)
    if memory:
        return _calibrate_memory(table, Path(output or "memory.json"), others=measure or bool(hold_out))
    if measure or (table is not None and table.is_dir()):
        _refuse_tables(table, hold_out, measure=measure)
        return _calibrate_here(recipe if measure else None, table, Path(output or "here.json"))
    if table is None:
        raise InputError(
            "a table of runs, a folder of runs or --measure is missing.",
            mend="Pass a TABLE.csv of measured runs, a folder of runs that have ended here, or --measure.",
        )
    from megalith.planning.calibration.calibrate import calibrate

    written = Path(output or "constants.json")
    check_file(written)
    return calibrate(table, written, hold_out)


def _calibrate_memory(runs: Path | None, output: Path, *, others: bool) -> dict[str, Any]:
    if runs is None or runs.is_dir() or others:
        raise InputError(
            "--memory takes a table of runs with mem_gb, and neither --measure nor --hold-out.",
            where="--memory",
            mend="Use `plan calibrate TABLE.csv --memory`.",
        )
    from megalith.planning.calibration.fit_memory import calibrate_memory

    check_file(output)
    return calibrate_memory(runs, output)


def _refuse_tables(runs: Path | None, hold_out: Sequence[str], *, measure: bool) -> None:
    """Raise UnsupportedError where what belongs to a table of runs stands beside a measurement of this machine."""
    if measure and runs is not None and not runs.is_dir():
        raise UnsupportedError(
            "a measurement of this machine takes no table of runs.",
            where=str(runs),
            mend="Remove it, or --measure; a folder of runs that have ended here may stand beside --measure.",
        )
    if hold_out:
        raise UnsupportedError("this machine has no datasets.", where="--hold-out", mend="Remove it.")


def _calibrate_here(recipe: RecipeSource | None, runs: Path | None, output: Path) -> dict[str, Any]:
    """Measure for the recipe's model where one is given, and correct the file by the runs below the folder `runs`."""
    from megalith.planning.measuring.correction import correct_file, read_runs
    from megalith.planning.measuring.verbs import calibrate_here

    check_file(output)
    if runs is not None:
        read_runs(runs)  # refused before a measurement, not after it
    found: dict[str, Any] = {}
    if recipe is not None:
        found |= calibrate_here(load(recipe, ()), output)
    if runs is not None:
        found |= correct_file(output, runs)
    return found
