"""Shared by every verb: its options, errors in one paragraph, JSON."""

import functools
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from megalith.console import console, note, visible
from megalith.errors import InputError, MegalithError, UnsupportedError
from megalith.recipe import Recipe, shipped_recipes
from megalith.recipe.yaml_values import shorten
from megalith.system_limits import limit_reached

P = ParamSpec("P")


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
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn Megalith's errors, and the system's about paths and limits, into one paragraph and exit code 2."""
    return _guarded(function, "interrupted")


def resuming_verb(function: Callable[P, None]) -> Callable[P, None]:
    """A verb whose finished pieces stand when it is interrupted."""
    return _guarded(function, "interrupted; the same command goes on from here")


def _guarded(function: Callable[P, None], farewell: str) -> Callable[P, None]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _check_arguments(kwargs)
            function(*args, **kwargs)
            sys.stdout.flush()
        except MegalithError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            note(farewell)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(1) from None
        except Exception as error:
            limit = limit_reached(error)
            if limit is not None:
                _fail(str(limit))
            if not isinstance(error, OSError) or error.filename is None:
                raise
            _fail(str(_of_path(error, kwargs.get("output"), writes="output" in kwargs)))

    return wrapped


def _check_arguments(arguments: Mapping[str, object]) -> None:
    """Raise InputError for a text or path that is not UTF-8, and for a number that is not finite or too large.

    The native libraries that read and write the data take paths as text. A recipe's own path may be any bytes, and
    overrides are looked at where they are read.
    """
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | Path) and name not in ("recipe", "overrides") and not _is_whole(str(one)):
                kind, mend = ("path", "Rename it.") if isinstance(one, Path) else ("text", None)
                raise InputError(f"this {kind} is not UTF-8: {shorten(str(one))}.", where=option, mend=mend)
            if isinstance(one, float) and not math.isfinite(one):
                raise InputError(f"{one} is not a finite number.", where=option)
            if isinstance(one, int) and abs(one) >= 2**63:
                raise InputError(f"{shorten(str(one))} is too large.", where=option)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    console.print(visible(f"megalith: {message}"), style="red", soft_wrap=not console.is_terminal)
    raise typer.Exit(2)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))  # noqa: T201 - the one place that prints for a program


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
