"""The verb `push`: finished artifacts into a store."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import human_bytes, note

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="An artifact (runs/NAME/train), or an expedition (runs/NAME).")
]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="s3://BUCKET/PATH or gs://BUCKET/PATH.")]


@verb
def push(directory: Directory, address: Address, as_json: Json = False) -> None:
    """Put an artifact, or each artifact of an expedition, into a store; the manifest last."""
    from megalith import verbs

    made = verbs.push(directory, address)
    if as_json:
        print_json({"artifacts": [asdict(one) for one in made]})
        return
    for one in made:
        how = "stands already" if one.stood else f"{counted(one.files, 'file')}, {human_bytes(one.bytes)}"
        note(f"{one.stage}: {how} at {one.address}")
