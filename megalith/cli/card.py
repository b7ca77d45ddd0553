"""The verb `card`: the dataset card of a curated corpus."""

import json
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.shared import Json, counted, print_json, verb
from megalith.console import note
from megalith.errors import InputError

app = typer.Typer()

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A `curate` artifact: runs/NAME/curate.")]
Licences = Annotated[
    list[str] | None,
    typer.Option("--licence", metavar="DATASET=LICENCE", help="The licence of one data set; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the card. Default: DIR-card.")]


@app.command()
@verb
def card(directory: Directory, licence: Licences = None, output: Output = None, as_json: Json = False) -> None:
    """Write a dataset card (Markdown, JSON, one HTML page): funnel, samples, duplicates, histograms, digests."""
    from megalith.report import write_card

    folder = write_card(directory, dict(map(_licence, licence or ())), output)
    told = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(told)
        return
    note(f"{counted(told['documents_out'], 'document')} of {told['documents_in']:,}: {folder / 'card.html'}")


def _licence(given: str) -> tuple[str, str]:
    name, sign, said = given.rpartition("=")
    if not (sign and name and said):
        raise InputError("a licence is given as DATASET=LICENCE.", where=f"--licence {given}")
    return name, said
