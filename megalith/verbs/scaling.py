"""Scaling laws: each verb of `megalith scaling`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from megalith.recipe import Overrides
from megalith.verbs.arguments import Place, Places, RecipeSource, check_file, directory_of, load, path, paths

Counted = Literal["total", "with_head", "non_embedding", "unknown"]


def scaling_fit(
    runs: Place,
    *,
    output: Place | None = None,
    page: Place | None = None,
    parameters: Counted | None = None,
    only: Sequence[str] = (),
    drop_highest: int = 0,
    pin_e: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit scaling laws to runs: a CSV, a train artifact or a folder of such.

    Chinchilla's three approaches, Kaplan's law, repeated tokens where runs repeat them; intervals, held-out errors and
    the law that foretells larger runs best. `output` is the law's file, for `scaling_predict` and `plan_budget`, and
    `page` an HTML file of the figures. `parameters` is the convention of N, `only` keeps rows by COLUMN=VALUE,
    `drop_highest` leaves out so many of the highest losses, `pin_e` holds E, `resamples` are bootstraps.
    """
    from megalith.scaling import fit

    written, drawn = path(output), path(page)
    for file in (written, drawn):
        if file is not None:
            check_file(file)
    found = fit(
        Path(runs), resamples=resamples, seed=seed, pin_e=pin_e, only=only, drop_highest=drop_highest,
        parameters=parameters, output=written,
    )  # fmt: skip
    if drawn is not None:
        from megalith.report import write_laws

        found["page"] = str(write_laws(drawn, found))
    return found


def scaling_predict(
    law: Place,
    *,
    parameters: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """The loss of a run that has not been made, with its interval, by the law in a file of `scaling_fit`.

    Two of parameters, tokens and FLOPs say the run, or all three where FLOPs were counted; FLOPs alone, the optimum's.
    """
    from megalith.scaling.fitting import check_digest
    from megalith.scaling.prediction import predict

    return predict(check_digest(Path(law)), parameters=parameters, tokens=tokens, flops=flops, level=level)


def scaling_study(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    budgets: str | None = None,
    flops: float | None = None,
    sizes: int = 6,
    ratio: float = 1.6,
    seeds: int = 3,
    jobs: int | None = None,
    hours: float | None = None,
    output: Place | None = None,
    design: bool = False,
    smallest: bool = False,
    slurm: bool = False,
) -> dict[str, Any]:
    """A sweep of small runs for scaling laws: designed, run, collected, fitted and drawn.

    `budgets` are FLOPs such as "3e12,8e12,2.2e13", or `flops` what all cells together may spend; at each budget `sizes`
    models `ratio` apart, and `seeds` of the middle one. `design` and `slurm` run nothing: they return the design, or
    write it as an array; `smallest` runs the cheapest cell alone. The same call goes on where it ended.
    """
    from megalith.study import design as designed
    from megalith.study import study
    from megalith.study.slurm import write_array

    loaded = load(recipe, overrides)
    plan = designed(loaded, budgets=_budgets(budgets), flops=flops, sizes=sizes, ratio=ratio, seeds=seeds)
    if design:
        return {"design": plan.facts()}
    directory = directory_of(loaded, output)
    if slurm:
        from megalith.study.running import prepare

        prepare(loaded, directory, plan, paths(source))
        return {"design": plan.facts(), "script": str(write_array(directory, plan))}
    return study(loaded, directory, plan, paths(source), jobs=jobs, hours=hours, only_smallest=smallest)


def _budgets(text: str | None) -> tuple[float, ...]:
    """FLOPs from a list with commas. Raises RecipeError for a word that is not a number."""
    from megalith.errors import RecipeError

    try:
        return tuple(float(word) for word in (text or "").replace(",", " ").split())
    except ValueError as error:
        raise RecipeError(
            f"{text!r} are not FLOPs.", where="--budgets", mend="Use numbers with commas: --budgets 3e12,8e12,2.2e13."
        ) from error
