"""The verb `card`: the dataset card of a curated corpus."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import note
from megalith.errors import InputError
from megalith.input_files import read_json

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A `curate` artifact: runs/NAME/curate.")]
Licences = Annotated[
    list[str] | None,
    typer.Option("--licence", metavar="DATASET=LICENCE", help="The licence of one data set; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the card. Default: DIR-card.")]


@verb
def card(directory: Directory, licence: Licences = None, output: Output = None, as_json: Json = False) -> None:
    """Write a dataset card (Markdown, JSON, one HTML page): funnel, samples, duplicates, histograms, digests."""
    from megalith import verbs

    folder = verbs.write_card(directory, licence=dict(map(_licence, licence or ())), output=output)
    told = read_json(folder / "card.json")
    if as_json:
        print_json(told)
        return
    note(f"{counted(told['documents_out'], 'document')} of {told['documents_in']:,}: {folder / 'card.html'}")


def _licence(given: str) -> tuple[str, str]:
    name, sign, said = given.rpartition("=")
    if not (sign and name and said):
        raise InputError("a licence is given as DATASET=LICENCE.", where=f"--licence {given}")
    return name, said
