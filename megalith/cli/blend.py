"""The verb `blend`: what a run reads of each data set, before it starts."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.shared import Json, Output, Overrides, RecipeName, expedition_directory, print_json, verb
from megalith.console import human_count, note, show, table
from megalith.recipe import load_recipe

app = typer.Typer()

Tokens = Annotated[Path | None, typer.Option("--tokens", help="A `tokenize` artifact. Default: the expedition's.")]


@app.command()
@verb
def blend(
    recipe: RecipeName,
    overrides: Overrides = None,
    tokens: Tokens = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Shares, tokens drawn and epochs of each data set of the blend; an impossible one is refused."""
    from megalith.artifacts import open_artifact
    from megalith.tokens.blending import check_blend, check_epochs, portions

    loaded, _ = load_recipe(recipe, overrides or ())
    place = tokens or expedition_directory(output, loaded) / "tokenize"
    sizes: dict[str, int] = {}
    if tokens is not None or (place / "manifest.json").is_file():
        facts = open_artifact(place, "tokenize").facts
        sizes = {name: held["tokens"] for name, held in facts.get("datasets", {}).items()}
    made = portions(loaded.blend, sizes, loaded.train.tokens)
    if sizes:
        check_blend(loaded.blend, sizes, loaded.train.tokens)
    check_epochs(loaded.blend, made)
    source = "shards" if sizes else "recipe"
    if as_json:
        told = {"run_tokens": loaded.train.tokens, "maximum_epochs": loaded.blend.maximum_epochs, "sizes_from": source}
        print_json(told | {"datasets": [asdict(one) for one in made]})
        return
    rows = [
        (one.name, f"{one.share:.5f}", _many(one.tokens), _many(one.drawn_tokens), _times(one.epochs)) for one in made
    ]
    show(table(f"Blend of {loaded.name}", ("data set", "share", "tokens", "drawn", "epochs"), rows))
    note(f"a run of {_many(loaded.train.tokens)} tokens; sizes are those of the {source}")


def _many(tokens: float | None) -> str:
    return "–" if tokens is None else human_count(tokens)


def _times(epochs: float | None) -> str:
    return "–" if epochs is None else f"{epochs:.2f}"
