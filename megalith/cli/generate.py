"""The verb `generate`: text from a trained model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Output, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import write_text


@verb
def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Text to continue; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, max=1_000_000, help="New tokens.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Keep this many most likely tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Keep this much probability.")] = 0.95,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Default: the recipe's.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model directory. Default: the expedition's.")] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Text from the expedition's model."""
    from megalith import verbs

    made = verbs.generate(
        recipe,
        prompt or "",
        overrides=overrides or (),
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        model=model,
        output=output,
    )
    if as_json:
        print_json({"samples": [asdict(one) for one in made]})
        return
    for one in made:
        write_text(one.prompt + one.text)
