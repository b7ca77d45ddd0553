"""The command `megalith`: one verb, one function. It parses, calls, prints; the work is elsewhere."""

import contextlib
import os
import sys
from typing import Annotated

import typer

from megalith import __version__
from megalith.cli import blend, card, curate, plans, recipes, walk
from megalith.processes import wait_politely

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a compute budget to an audited language model.",
)
app.add_typer(walk.app)
app.add_typer(curate.app)
app.add_typer(blend.app)
app.add_typer(card.app)
app.add_typer(recipes.app, name="recipe")
app.add_typer(plans.app, name="plan")
app.add_typer(plans.scaling_app, name="scaling")


def main() -> None:
    """Entry point of the command.

    It ends without Python's farewell: the native threads of an interrupted library have been seen to abort there.
    """
    wait_politely()
    code: object = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"megalith {__version__}")
        raise typer.Exit
