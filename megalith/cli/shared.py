"""What every verb shares: its options, errors in one paragraph, JSON."""

import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from megalith.artifacts import disk_is_full
from megalith.console import console, note
from megalith.errors import InputError, MegalithError, ResourceError, UnsupportedError
from megalith.recipe import Recipe

P = ParamSpec("P")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Overrides of single values.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the expedition. Default: runs/NAME.")]
Source = Annotated[
    list[Path] | None,
    typer.Option("--source", help="WARC, JSONL, Parquet or text: files, directories or addresses; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn Megalith's errors, and the system's about paths, into one paragraph and exit code 2."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except MegalithError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            note("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            if disk_is_full(error):
                _fail(str(ResourceError("the disk is full.", mend="Free some space and give the same command again.")))
            if error.filename is None:
                raise
            _fail(str(_of_path(error, kwargs.get("output"), writes="output" in kwargs)))

    return wrapped


def check_file(path: Path) -> None:
    """Try that a file can be written at `path`, before long work; the folder is made.

    Raises InputError where a directory stands there, OSError where nothing can be written.
    """
    if path.is_dir():
        raise InputError("a directory stands where a file is wanted.", where=str(path), mend="Name a file in it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _of_path(error: OSError, output: object, *, writes: bool) -> InputError:
    """What the system says of a path: of the verb's `output`, or of where it writes without one, or of any other."""
    path = Path(os.fsdecode(error.filename))
    if isinstance(output, Path):
        writes = path in (output, *output.parents) or output.parent in path.parents
        path = output if writes else path
    if not writes:
        return InputError(f"this path cannot be used: {error.strerror}.", where=str(path))
    blocked = isinstance(error, FileExistsError | NotADirectoryError)
    said = "a file stands where a directory is wanted" if blocked else f"this cannot be written: {error.strerror}"
    return InputError(f"{said}.", where=str(path), mend="Name another place with --output.")


def _fail(message: str) -> NoReturn:
    console.print(f"megalith: {message}", markup=False, style="red", soft_wrap=True)
    raise typer.Exit(2)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))  # noqa: T201 - this is what --json is for


def expedition_directory(output: Path | None, recipe: Recipe) -> Path:
    return output if output is not None else Path("runs") / recipe.name


def counted(number: float, one: str, more: str | None = None) -> str:
    """`1 node`, `1,200 nodes`."""
    return f"{number:,.0f} {one if round(number) == 1 else more or one + 's'}"


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list):
        return " … ".join(cell(inner) for inner in value)
    return "–" if value is None else str(value)


def not_yet(group: typer.Typer, name: str, sentence: str) -> None:
    """Add a verb of the design that a later version brings: it says so in one sentence, and exits with code 2."""

    @group.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, help=sentence)
    @verb
    def refuse(context: typer.Context) -> None:
        raise UnsupportedError(sentence)
