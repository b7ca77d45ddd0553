"""The verb `average`: the mean of several models."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Fresh, Json
from megalith.cli.tables import print_json
from megalith.console import note

Models = Annotated[list[Path], typer.Argument(metavar="MODEL", help="Checkpoints, or models; or one run, with --last.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The artifact. Default: averaged/NAME.")]
Last = Annotated[int | None, typer.Option("--last", min=2, metavar="K", help="The last K checkpoints of a run.")]


@verb
def average(
    models: Models, last: Last = None, output: Output = None, fresh: Fresh = False, as_json: Json = False
) -> None:
    """Average the weights of several checkpoints or models."""
    from megalith import verbs

    made = verbs.average(models, last=last, output=output, fresh=fresh)
    if as_json:
        print_json({"path": str(made.path), "digest": made.digest, **made.facts})
        return
    how = "stands already" if made.reused else "is written"
    note(f"the mean of {made.facts['models']} models {how} at {made.path}")
