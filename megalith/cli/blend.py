"""The verb `blend`: what a run reads of each data set, before it starts."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Output, Overrides, RecipeName
from megalith.cli.tables import print_json
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


def _many(tokens: float | None) -> str:
    return "–" if tokens is None else human_count(tokens)


def _times(epochs: float | None) -> str:
    return "–" if epochs is None else f"{epochs:.2f}"
