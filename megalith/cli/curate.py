"""The verb `curate`: the stage of that name, on this machine or on a Ray cluster."""

from typing import Annotated, Literal

import typer

from megalith.cli.shared import Fresh, Json, Output, Overrides, RecipeName, Source, expedition_directory, resuming_verb
from megalith.cli.walk import show_facts
from megalith.console import note
from megalith.recipe import load_recipe

app = typer.Typer()

Engine = Annotated[Literal["native", "ray"], typer.Option("--engine", help="All cores here, or a Ray cluster's.")]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="The cluster, as `ray start` prints it. Default: one is started here."),
]


@app.command()
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
    from pathlib import Path

    from megalith import expedition
    from megalith.curation.daft_engine import use_engine
    from megalith.report import write_card

    loaded, _ = load_recipe(recipe, overrides or ())
    use_engine(engine, ray_address)
    given = source or [Path(path) for path in loaded.curate.paths]
    made = expedition.run_stage("curate", loaded, expedition_directory(output, loaded), given, fresh=fresh)
    card = write_card(made.path)
    show_facts(made, as_json=as_json)
    note(f"what was kept and dropped, and why: {card / 'card.html'}")
