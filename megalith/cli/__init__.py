"""The command `megalith`: one verb, one function. It parses, calls, prints; the work is elsewhere."""

import contextlib
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

from megalith import __version__
from megalith.cli.audit import audit
from megalith.cli.average import average
from megalith.cli.blend import blend, blend_search
from megalith.cli.card import card
from megalith.cli.chat import chat
from megalith.cli.compare import compare
from megalith.cli.crawl import crawl
from megalith.cli.curate import curate
from megalith.cli.evaluate import evaluate
from megalith.cli.export_model import export_model
from megalith.cli.generate import generate
from megalith.cli.help import Sections
from megalith.cli.import_model import import_model
from megalith.cli.plan import app as plan_app
from megalith.cli.push import push
from megalith.cli.recipe import app as recipe_app
from megalith.cli.report import report
from megalith.cli.run import run
from megalith.cli.scaling import app as scaling_app
from megalith.cli.score import score
from megalith.cli.serve import serve
from megalith.cli.tokenize import tokenize
from megalith.cli.train import train
from megalith.cli.verify import verify
from megalith.console import note, settle_streams
from megalith.processes import wait_politely

app = typer.Typer(
    cls=Sections,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a compute budget to an audited language model.",
)
for verb in (
    run,
    crawl,
    curate,
    tokenize,
    train,
    evaluate,
    audit,
    average,
    score,
    compare,
    report,
    generate,
    chat,
    serve,
    blend,
    card,
    verify,
    push,
):
    app.command()(verb)
app.command("blend search")(blend_search)
app.command("import")(import_model)
app.command("export")(export_model)
app.add_typer(recipe_app, name="recipe")
app.add_typer(plan_app, name="plan")
app.add_typer(scaling_app, name="scaling")


def main() -> None:
    """Entry point of the command.

    It ends without Python's farewell: the native threads of an interrupted library have been seen to abort there.
    """
    settle_streams()
    wait_politely()
    code: object = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - whatever escapes a verb is a bug of ours, and is told as one
        _report_bug(error)
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _report_bug(error: Exception) -> None:
    """One sentence for the person, and the traceback in a file (on standard error with MEGALITH_TRACEBACK=1)."""
    told = "".join(traceback.format_exception(error))
    place = "above"
    if os.environ.get("MEGALITH_TRACEBACK") == "1":
        note(told)
    else:
        try:
            handle, place = tempfile.mkstemp(prefix="megalith-traceback-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(told)
        except OSError:
            place = "shown with MEGALITH_TRACEBACK=1"
    said = " ".join(str(error).split())[:200]
    note(f"megalith: this is a bug in Megalith ({type(error).__name__}: {said}). Report it with the traceback: {place}")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"megalith {__version__}")
        raise typer.Exit
