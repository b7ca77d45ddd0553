"""The verbs `blend`, what a run reads of each data set before it starts, and `blend search`, the best weights."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.cli.guard import resuming_verb, verb
from megalith.cli.options import Design, Hours, Jobs, Json, Output, Overrides, RecipeName, Slurm
from megalith.cli.tables import counted, percent, print_json
from megalith.console import human_count, note, show, table

Tokens = Annotated[Path | None, typer.Option("--tokens", help="A `tokenize` artifact. Default: the expedition's.")]


@verb
def blend(
    recipe: RecipeName,
    overrides: Overrides = None,
    tokens: Tokens = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Shares, tokens drawn and epochs of each data set of the blend; an impossible one is refused."""
    from megalith import verbs

    found = verbs.blend(recipe, overrides=overrides or (), tokens=tokens, output=output)
    if as_json:
        told = asdict(found)
        del told["recipe"]
        print_json(told)
        return
    rows = [
        (one.name, f"{one.share:.5f}", _many(one.tokens), _many(one.drawn_tokens), _times(one.epochs))
        for one in found.datasets
    ]
    show(table(f"Blend of {found.recipe}", ("data set", "share", "tokens", "drawn", "epochs"), rows))
    note(f"a run of {_many(found.run_tokens)} tokens; sizes are those of the {found.sizes_from}")


@resuming_verb
def blend_search(
    recipe: RecipeName,
    overrides: Overrides = None,
    mixtures: Annotated[int, typer.Option("--mixtures", min=1, max=100_000, help="Proxy runs, one a mixture.")] = 32,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME[=W],...", help="Data sets whose loss is to be low. Default: all alike."),
    ] = None,
    target_tokens: Annotated[
        int | None, typer.Option("--target-tokens", min=1, help="Of the run to come. Default: train.tokens.")
    ] = None,
    most_epochs: Annotated[
        float, typer.Option("--most-epochs", min=0.01, max=1e6, help="That run reads no data set more often.")
    ] = 4.0,
    proxy_parameters: Annotated[
        float, typer.Option("--proxy-parameters", min=1.0, max=1e13, help="Of a proxy, without embeddings.")
    ] = 1e6,
    proxy_tokens: Annotated[
        float | None, typer.Option("--proxy-tokens", min=1.0, max=1e15, help="Of a proxy. Default: 20 a parameter.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, max=2**31 - 1, help="Sequences. Default: by the FLOPs.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=1e-9, max=10.0, help="Default: by the FLOPs.")
    ] = None,
    held_out_tokens: Annotated[
        int, typer.Option("--held-out-tokens", min=1, max=2**40, help="Of each data set, to measure its loss.")
    ] = 100_000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=20, help="Runs of each mixture in the check.")] = 2,
    jobs: Jobs = None,
    hours: Hours = None,
    output: Output = None,
    design: Design = False,
    smallest: Annotated[bool, typer.Option("--smallest", help="Make the first run alone.")] = False,
    slurm: Slurm = False,
    as_json: Json = False,
) -> None:
    """The best weights of the data sets, by proxy runs of many mixtures (RegMix), and their check."""
    from megalith import verbs

    found = verbs.blend_search(
        recipe, overrides=overrides or (), mixtures=mixtures, target=target, target_tokens=target_tokens,
        most_epochs=most_epochs, proxy_parameters=proxy_parameters, proxy_tokens=proxy_tokens, batch=batch,
        learning_rate=learning_rate, held_out_tokens=held_out_tokens, seeds=seeds, jobs=jobs, hours=hours,
        output=output, design=design, smallest=smallest, slurm=slurm,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    _show_design(found["design"])
    if "script" in found:
        note(f"written to {found['script']}: sbatch it, then run the same command again")
    elif not design:
        _show_search(found)


def _show_design(found: Mapping[str, Any]) -> None:
    run = found["run"]
    title = (
        f"{counted(found['mixtures'], 'mixture')}, {found['flops']:.3g} FLOPs in all\n\n"
        f"{run['layers']} × {run['hidden']}, {human_count(run['non_embedding'])} parameters without embeddings, "
        f"{human_count(run['tokens'])} tokens in {run['steps']:,} steps of {run['batch']}, "
        f"learning rate {run['learning_rate']:.3g}"
    )
    weights = [one["weights"] for one in found["cells"]]
    rows = [
        (name, percent(found["natural"][place], 2), percent(found["caps"][place]),
         *(percent(sorted(one[place] for one in weights)[at]) for at in (0, len(weights) // 2, -1)))
        for place, name in enumerate(found["datasets"])
    ]  # fmt: skip
    show(table(title, ("data set", "natural", "cap", "least drawn", "median", "most"), rows))
    if found["redrawn"]:
        note(f"{counted(found['redrawn'], 'draw')} over the cap on repetition drawn again")


def _show_search(found: Mapping[str, Any]) -> None:
    if found["missing"]:
        note(f"{counted(len(found['missing']), 'run')} still to make: the same command goes on with them")
    regression, best = found["regression"], found["found"]
    if regression is not None:
        errors = ", ".join(f"{one['name']} {one['error']:.4f}" for one in regression["candidates"])
        low, high = regression["interval"]
        note(f"regression: {regression['chosen']}, by leave-one-out error of the loss ({errors} nats)")
        note(f"held-out rank correlation (Spearman): {regression['spearman']:.2f}, 95 % {low:.2f} … {high:.2f}")
    if best is not None:
        rows = [
            (one["name"], percent(one["natural"], 2), percent(one["recipe"], 2), percent(best["weights"][place], 2),
             " … ".join(percent(end, 0) for end in best["ranges"][place]), _times(best["epochs"][place]))
            for place, one in enumerate(found["datasets"])
        ]  # fmt: skip
        title = f"Weights found: {best['predicted']:.4f} predicted, natural {best['predicted_natural']:.4f}"
        show(table(title, ("data set", "natural", "recipe", "found", "range", "epochs"), rows))
    if found["check"] is not None:
        _show_check(found["check"], [one["name"] for one in found["datasets"]])
    for warning in found["warnings"]:
        note(f"warning: {warning}")
    if found["recommended"] is not None:
        note("to be used: " + " ".join(found["recommended"]["overrides"]))
    if "page" in found:
        note(f"page: {found['page']}")


def _show_check(check: Mapping[str, Any], names: list[str]) -> None:
    gaps = {one["against"]: one for one in check["differences"]}
    rows = []
    for arm, told in check["arms"].items():
        gap = gaps.get(arm)
        interval = "" if gap is None else " … ".join(f"{end:+.4f}" for end in gap["interval"])
        seeds = ", ".join(f"{loss:.4f}" for loss in told["losses"])
        rows.append(
            (arm, f"{told['mean']:.4f}", seeds, "" if gap is None else f"{gap['difference']:+.4f}", interval,
             *(f"{loss:.4f}" for loss in told["by_dataset"]))
        )  # fmt: skip
    title = f"Check: loss of the target; seeds scatter by {check['noise']:.4f} ({check['freedom']} degrees of freedom)"
    show(table(title, ("weights", "mean", "by seed", "found − it", "95 %", *names), rows))


def _many(tokens: float | None) -> str:
    return "–" if tokens is None else human_count(tokens)


def _times(epochs: float | None) -> str:
    return "–" if epochs is None else f"{epochs:.2f}"
