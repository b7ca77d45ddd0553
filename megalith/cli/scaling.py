"""The verbs of `megalith scaling`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from megalith.cli.guard import resuming_verb, verb
from megalith.cli.help import Sections
from megalith.cli.options import Design, Hours, Jobs, Json, Output, Overrides, RecipeName, Slurm, Source
from megalith.cli.tables import counted, percent, print_json
from megalith.console import human_count, note, show, table

app = typer.Typer(cls=Sections, no_args_is_help=True, help="Scaling laws from runs.")
Counted = Literal["total", "with_head", "non_embedding", "unknown"]


@app.command("fit")
@verb
def scaling_fit(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="A CSV, a train artifact, or a folder of such, with their loss.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The law's file, for `scaling predict` and `plan budget`.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE.html", help="Draw the figures.")] = None,
    parameters: Annotated[
        Counted | None, typer.Option("--parameters", help="What N counts, where the runs say more than one.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="COLUMN=VALUE", help="Rows to keep; may be repeated.")
    ] = None,
    drop_highest: Annotated[
        int, typer.Option("--drop-highest", min=0, max=1_000_000, help="Leave out so many of the highest losses.")
    ] = 0,
    pin_e: Annotated[
        float | None, typer.Option("--pin-e", min=0.0, max=1e3, help="Hold E at this, and fit the others.")
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=2, max=100_000, help="Bootstraps for the intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31, help="Of the bootstraps.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit scaling laws to runs: Chinchilla's three approaches, Kaplan's law, repeated tokens."""
    from megalith import verbs

    found = verbs.scaling_fit(
        runs, output=output, page=page, parameters=parameters, only=only or (), drop_highest=drop_highest, pin_e=pin_e,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    if found["approach"] is None:
        _show_one_size(found)
    else:
        _show_fit(found)
    for key in ("law", "page"):
        if key in found:
            note(f"written to {found[key]}")


@app.command("predict")
@verb
def scaling_predict(
    law: Annotated[Path, typer.Argument(metavar="LAW.json", help="A file of `scaling fit --output`.")],
    parameters: Annotated[
        float | None, typer.Option("--parameters", "-N", metavar="N", help="As the law counts.")
    ] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", "-D", metavar="D", help="Trained on.")] = None,
    flops: Annotated[float | None, typer.Option("--flops", "-C", metavar="C", help="Of training.")] = None,
    level: Annotated[float, typer.Option("--level", min=0.5, max=0.999, help="Of the interval.")] = 0.95,
    as_json: Json = False,
) -> None:
    """The loss of a run that has not been made: of two or all of N, D and C, or of the optimum for C alone."""
    from megalith import verbs

    found = verbs.scaling_predict(law, parameters=parameters, tokens=tokens, flops=flops, level=level)
    if as_json:
        print_json(found)
    else:
        _show_prediction(found)


@app.command("study")
@resuming_verb
def scaling_study(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    budgets: Annotated[
        str | None, typer.Option("--budgets", metavar="C,C,...", help="IsoFLOP budgets, such as 3e12,8e12,2.2e13,6e13.")
    ] = None,
    flops: Annotated[
        float | None, typer.Option("--flops", min=1.0, max=1e30, help="Of all runs, in place of --budgets.")
    ] = None,
    sizes: Annotated[int, typer.Option("--sizes", min=3, max=20, help="Models at each budget.")] = 6,
    ratio: Annotated[float, typer.Option("--ratio", help="Parameters of a size over those of the next smaller.")] = 1.6,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Of the middle size of each budget.")] = 3,
    jobs: Jobs = None,
    hours: Hours = None,
    output: Output = None,
    design: Design = False,
    smallest: Annotated[bool, typer.Option("--smallest", help="Run the cheapest cell alone.")] = False,
    slurm: Slurm = False,
    as_json: Json = False,
) -> None:
    """A sweep of small runs: designed, run, collected, fitted and drawn."""
    from megalith import verbs

    asked: dict[str, Any] = {
        "overrides": overrides or (), "source": source or (), "budgets": budgets, "flops": flops, "sizes": sizes,
        "ratio": ratio, "seeds": seeds, "output": output,
    }  # fmt: skip
    if not as_json:
        _show_design(verbs.scaling_study(recipe, **asked, design=True)["design"])
    found = verbs.scaling_study(recipe, **asked, jobs=jobs, hours=hours, design=design, smallest=smallest, slurm=slurm)
    if as_json:
        print_json(found)
    elif not design:
        _show_study(found)


def _show_design(found: Mapping[str, Any]) -> None:
    rows = [
        (cell["cell"], f"{cell['budget']:.3g}", f"{cell['parameters_with_head']:,}",
         f"{cell['layers']} × {cell['hidden']}", human_count(cell["tokens"]),
         f"{cell['tokens'] / cell['parameters_with_head']:.1f}", f"{cell['steps']:,}",
         f"{cell['batch']}", f"{cell['learning_rate']:.3g}")
        for cell in found["cells"]
    ]  # fmt: skip
    headings = ("cell", "FLOPs", "N with head", "layers × width", "tokens", "D/N", "steps", "batch", "learning rate")
    show(table(f"{counted(len(rows), 'run')}, {found['flops']:.3g} FLOPs in all", headings, rows))


def _show_study(found: Mapping[str, Any]) -> None:
    if "script" in found:
        note(f"written to {found['script']}: sbatch it, then run the same command without --slurm")
        return
    if found["missing"]:
        note(f"{counted(len(found['missing']), 'cell')} still to run: the same command goes on with them")
    if found["fit"] is not None and "refused" not in found["fit"]:
        _show_fit(found["fit"])
    noise = found["seed_noise"]["pooled"]
    if noise is not None:
        note(f"noise of seeds: {noise:.2%} of the loss")
    for warning in found["warnings"]:
        note(f"warning: {warning}")
    if "page" in found:
        note(f"page: {found['page']}")


def _show_fit(found: Mapping[str, Any]) -> None:
    for left_out in found["runs"]["left_out"]:
        note(f"left out: {left_out}")
    with_misfit, bare = found["intervals"] or {}, found["bootstrap_intervals"] or {}
    constants = [
        (name, f"{found[name]:.5g}", _span(bare.get(name)), _span(with_misfit.get(name)))
        for name in ("E", "A", "B", "alpha", "beta", "a")
    ]
    title = f"{found['runs']['described']}\n\nL = E + A/N^α + B/D^β on {counted(found['points'], 'run')}"
    show(table(title, ("constant", "value", "95 % of bootstraps", "with lack of fit"), constants))
    show(table("a in N ∝ C^a, by each approach", ("approach", "a", "95 %", "remark"), _exponents(found)))
    if len(found["conventions"]) > 1:
        counted_so = [
            (row["parameters"].replace("_", " "), _figure(row.get("a")), _span(row.get("interval")),
             _figure(row.get("approach_2_a")), _span(row.get("approach_2_interval")))
            for row in found["conventions"]
        ]  # fmt: skip
        show(table("a, by what N counts", ("N", "approach 3", "95 %", "approach 2", "95 %"), counted_so))
    held_out = [
        (
            row["way"],
            counted(row["runs"], "run"),
            f"{row['factor']:.3g} ×",
            percent(row["mape"], 2),
            f"{row['bias']:+.4f}",
        )
        for row in found["held_out"]
    ]
    show(table("Approach 3 on runs held out", ("held out", "runs", "farthest", "error", "bias of log L"), held_out))
    for left_out in found["approach_2"].get("left_out", ()):
        note(f"left out by approach 2: {left_out}")
    forecast = found["forecast"]
    note(
        f"larger runs are foretold by {forecast['forecaster']}: held-out error "
        f"{percent(forecast['held_out_mape'], 2)} on {counted(forecast['held_out_runs'], 'run')} up to "
        f"{forecast['held_out_factor']:.3g} × the FLOPs"
    )
    note(
        f"{found['start_agreement']:.0%} of 36 starts agree; objective {found['objective']:.9g}; "
        f"median residual of log L {found['residuals']['median']:.2g}"
    )
    if (repetition := found["repetition"]) is not None:
        note(f"repeated tokens: {repetition['refused'] if 'refused' in repetition else _repeated(repetition)}")
    for warning in found["warnings"]:
        note(f"warning: {warning}")


def _show_one_size(found: Mapping[str, Any]) -> None:
    """Runs of one size: the worth of repeated tokens alone."""
    for left_out in found["runs"]["left_out"]:
        note(f"left out: {left_out}")
    epochs: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for _, tokens, unique, loss, predicted in found["repetition"]["runs"]:
        epochs.setdefault((unique if tokens > 1.001 * unique else tokens, tokens), []).append((loss, predicted))
    rows = [
        (human_count(tokens), human_count(unique), f"{tokens / unique:.3g}", str(len(losses)),
         f"{sum(loss for loss, _ in losses) / len(losses):.4f}", f"{losses[0][1]:.4f}")
        for (unique, tokens), losses in sorted(epochs.items(), key=lambda each: (each[0][1], -each[0][0]))
    ]  # fmt: skip
    title = (
        f"{found['runs']['described']}\n\nL = {found['E']:.4g} + {found['B']:.4g}/D'^{found['beta']:.3g} "
        f"on {counted(found['points'], 'run')} of one size"
    )
    show(table(title, ("tokens", "unique", "epochs", "runs", "mean loss", "by the law"), rows))
    note(_repeated(found["repetition"]))
    for warning in found["warnings"]:
        note(f"warning: {warning}")


def _repeated(found: Mapping[str, Any]) -> str:
    return (
        f"R_D* {found['R_D']:.3g} ({_span(found['R_D_interval'])}); a token is worth half of a fresh one after "
        f"{found['pays_until']:.2g} epochs"
    )


def _exponents(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, key in (("1, envelope", "approach_1"), ("2, IsoFLOP minima", "approach_2"), ("Kaplan's law", "kaplan")):
        one = found[key]
        if "refused" in one:
            rows.append((name, "–", "–", one["refused"]))
            continue
        remark = f"{counted(len(one['left_out']), 'budget')} left out" if one.get("left_out") else ""
        rows.append((name, f"{one['a']['exponent']:.3f}", _span(one["a"]["interval"]), remark))
    interval = (found["intervals"] or {}).get("a")
    rows.insert(2, ("3, parametric", f"{found['a']:.3f}", _span(interval), ""))
    return rows


def _show_prediction(found: Mapping[str, Any]) -> None:
    low, high = found["interval"]
    best = found["optimum"]
    rows = [
        ("loss", f"{found['loss']:.4f}  ({low:.4f} … {high:.4f} at {found['level']:.0%})"),
        ("unit", found["loss_unit"]),
        ("by", found["forecaster"]),
        ("by approach 3", f"{found['by_approach_3']:.4f}"),
        ("run", f"{human_count(found['parameters'])} parameters, {human_count(found['tokens'])} tokens, "
                f"{found['flops']:.3g} FLOPs"),
        ("compute-optimal", f"{human_count(best['parameters'])} parameters on {human_count(best['tokens'])} tokens: "
                            f"{best['loss']:.4f} by approach 3"),
    ]  # fmt: skip
    show(table("A run that has not been made", ("figure", "value"), rows))
    for warning in found["warnings"]:
        note(f"warning: {warning}")
    note(f"law {found['digest'][:16]}")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4g} … {interval[1]:.4g}"
