"""Blends of data sets: their shares before a run, and a search for the best ones."""

from pathlib import Path
from typing import Any

from megalith.artifacts import MANIFEST, open_artifact
from megalith.recipe import Overrides
from megalith.verbs.arguments import Place, RecipeSource, directory_of, load
from megalith.verbs.results import BlendTable


def blend(
    recipe: RecipeSource, *, overrides: Overrides = (), tokens: Place | None = None, output: Place | None = None
) -> BlendTable:
    """Shares, tokens drawn and epochs of each data set of the blend. Raises RecipeError for an impossible one.

    Sizes are those of the `tokenize` artifact at `tokens` or in the expedition's directory, else the recipe's.
    """
    from megalith.tokens.blending import check_blend, check_epochs, portions

    loaded = load(recipe, overrides, model=False)
    place = directory_of(loaded, output) / "tokenize" if tokens is None else Path(tokens)
    sizes: dict[str, int] = {}
    if tokens is not None or (place / MANIFEST).is_file():
        facts = open_artifact(place, "tokenize").facts
        sizes = {name: held["tokens"] for name, held in facts.get("datasets", {}).items()}
    made = portions(loaded.mixture, sizes, loaded.train.tokens)
    if sizes:
        check_blend(loaded.mixture, sizes, loaded.train.tokens)
    check_epochs(loaded.mixture, made)
    return BlendTable(
        recipe=loaded.name,
        run_tokens=loaded.train.tokens,
        maximum_epochs=loaded.mixture.maximum_epochs,
        sizes_from="shards" if sizes else "recipe",
        datasets=tuple(made),
    )


def blend_search(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    mixtures: int = 32,
    target: str | None = None,
    target_tokens: int | None = None,
    most_epochs: float = 4.0,
    proxy_parameters: float = 1e6,
    proxy_tokens: float | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    held_out_tokens: int = 100_000,
    seeds: int = 2,
    jobs: int | None = None,
    hours: float | None = None,
    output: Place | None = None,
    design: bool = False,
    smallest: bool = False,
    slurm: bool = False,
) -> dict[str, Any]:
    """The weights of the recipe's data sets, found by proxy runs of many mixtures and checked, as RegMix does.

    `target` names the data sets whose held-out loss is to be low ("news" or "news=2,code=1"; default: all alike);
    `target_tokens` is the run that the weights are for, in which no data set is read more than `most_epochs` times.
    `design` runs nothing, `smallest` makes one run alone, `slurm` writes an array. The same call goes on where it
    ended. Raises MegalithError.
    """
    from megalith.study.mixture import MixtureSearch, search
    from megalith.study.mixture.design import parse_target
    from megalith.study.mixture.searching import check_recipe, design_alone, write_array

    loaded = load(recipe, overrides)
    check_recipe(loaded)
    asked = MixtureSearch(
        mixtures, most_epochs, parse_target(target, tuple(loaded.curate.datasets)), target_tokens, proxy_parameters,
        proxy_tokens, batch, learning_rate, held_out_tokens, seeds,
    )  # fmt: skip
    directory = directory_of(loaded, output)
    if design:
        return {"design": design_alone(loaded, directory, asked).facts()}
    if slurm:
        plan, script = write_array(loaded, directory, asked)
        return {"design": plan.facts(), "script": str(script)}
    return search(loaded, directory, asked, jobs=jobs, hours=hours, only_smallest=smallest)
