"""The verb `curate`: the stage of that name, on this machine or on a Ray cluster."""

from typing import Annotated, Literal

import typer

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Output, Overrides, RecipeName, Source
from megalith.cli.tables import show_facts
from megalith.console import note

Engine = Annotated[Literal["native", "ray"], typer.Option("--engine", help="All cores here, or a Ray cluster's.")]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="The cluster, as `ray start` prints it. Default: one is started here."),
]


@resuming_verb
def curate(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    engine: Engine = "native",
    ray_address: RayAddress = None,
    output: Output = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """WARC, JSONL, Parquet or text to filtered, deduplicated, decontaminated Parquet."""
    from megalith import verbs

    made = verbs.curate(
        recipe,
        overrides=overrides or (),
        source=source or (),
        engine=engine,
        ray_address=ray_address,
        output=output,
        fresh=fresh,
    )
    show_facts(made, as_json=as_json)
    note(f"what was kept and dropped, and why: {made.path.with_name(f'{made.path.name}-card') / 'card.html'}")
