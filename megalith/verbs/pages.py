"""The report, the dataset card, the blend and the digests of what stands on disk."""

from collections.abc import Mapping
from pathlib import Path

from megalith.artifacts import MANIFEST, Verified, open_artifact
from megalith.artifacts import verify as verify_artifacts
from megalith.recipe import Overrides
from megalith.verbs.arguments import Place, RecipeSource, directory_of, load, path
from megalith.verbs.results import BlendTable


def write_report(directory: Place) -> Path:
    """Write the page of a finished expedition again and return its path: the verb `report`."""
    from megalith.report import write_report as write

    return write(Path(directory))


def write_card(directory: Place, *, licence: Mapping[str, str] | None = None, output: Place | None = None) -> Path:
    """Write the dataset card of a `curate` artifact and return its folder: the verb `card`.

    `licence` is by data set. `output` is the card's folder, DIRECTORY-card by default.
    """
    from megalith.report import write_card as write

    return write(Path(directory), licence, path(output))


def verify(directory: Place) -> list[Verified]:
    """Compare every file of an artifact or an expedition with its digest."""
    return list(verify_artifacts(Path(directory)))


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
