"""The verb `verify`: whether the files of artifacts are those that were written."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import note, show, table
from megalith.errors import InputError

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="An artifact (runs/NAME/train), or an expedition (runs/NAME).")
]


@verb
def verify(directory: Directory, as_json: Json = False) -> None:
    """Read every file of an artifact or an expedition and compare it with its digest."""
    from megalith import verbs

    found = verbs.verify(directory)
    damaged = [(one, file) for one in found for file in one.damaged]
    if as_json:
        print_json(
            {
                "artifacts": [
                    {
                        "path": str(one.path),
                        "stage": one.stage,
                        "files": [{"path": file.path, "bytes": file.bytes, "state": file.state} for file in one.files],
                    }
                    for one in found
                ],
                "damaged": len(damaged),
            }
        )
    else:
        for one in found:
            rows = [(file.path, f"{file.bytes:,}", file.state) for file in one.files]
            show(table(f"{one.stage or 'unreadable'}: {one.path}", ("file", "bytes", "state"), rows))
    if damaged:
        one, file = damaged[0]
        others = f", and {counted(len(damaged) - 1, 'other file')}" if len(damaged) > 1 else ""
        raise InputError(
            f"{file.path} of {one.stage or 'this artifact'} ({file.state}){others} cannot be trusted.",
            where=str(one.path),
            mend="Restore from a copy, or run the stage again with --fresh, which sets the damaged artifact aside.",
        )
    note(f"{counted(sum(len(one.files) for one in found), 'file')} of {counted(len(found), 'artifact')} as written")
