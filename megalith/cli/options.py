"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.recipe import shipped_recipes


def _complete_recipe(incomplete: str) -> list[str]:
    return [name for name in shipped_recipes() if name.startswith(incomplete)]


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", autocompletion=_complete_recipe
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides of single values, such as train.tokens=1e9."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the expedition. Default: runs/NAME.")]
Model = Annotated[
    Path | None, typer.Option("--model", help="Another model: a directory, or an address. Default: the expedition's.")
]
Constants = Annotated[
    Path | None,
    typer.Option("--constants", metavar="FILE", help="What `plan calibrate` wrote, in place of the shipped ones."),
]
Source = Annotated[
    list[Path] | None,
    typer.Option("--source", help="WARC, JSONL, Parquet or text: files, directories or addresses; may be repeated."),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", help="Set aside (NAME.aside-N) what was made of other settings or inputs, and make it anew."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Train also where it takes longer than a day on this machine.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, max=1024, help="Runs at once. Default: a core each, up to 4.")
]
Hours = Annotated[float | None, typer.Option("--hours", min=0.0, max=1e6, help="Begin no run that would end later.")]
Design = Annotated[bool, typer.Option("--design", help="Print the design alone.")]
Slurm = Annotated[bool, typer.Option("--slurm", help="Write the runs as a Slurm array, and run none.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
