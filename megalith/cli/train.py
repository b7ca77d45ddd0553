"""The verb `train`: the stage of that name."""

from typing import Annotated

import typer

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Output, Overrides, RecipeName, Source, Yes
from megalith.cli.tables import show_facts


@resuming_verb
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    output: Output = None,
    fresh: Fresh = False,
    yes: Yes = False,
    branch: Annotated[
        str | None,
        typer.Option(metavar="STEP", help="Go on from this step, or checkpoint, with changed settings."),
    ] = None,
    cooldown: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="With --branch: let the rate fall over so many tokens.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the model that the recipe or the plan says."""
    from megalith import verbs

    made = verbs.train(
        recipe,
        overrides=overrides or (),
        source=source or (),
        output=output,
        fresh=fresh,
        yes=yes,
        branch=branch,
        cooldown=cooldown,
    )
    show_facts(made, as_json=as_json)
