"""Errors of a verb in one paragraph with an exit code, and the check of its arguments."""

import functools
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, ParamSpec

import typer

from megalith.console import console, note, visible
from megalith.errors import InputError, MegalithError
from megalith.recipe.yaml_values import shorten
from megalith.system_limits import limit_reached

P = ParamSpec("P")
DEEPEST_PATH = 256
"""Folders of a path; the system's 4,096 characters leave room for more than Python's recursion does."""


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
    """Raise InputError for a text or path that is not UTF-8 or too deep, and a number not finite or too large.

    The native libraries that read and write the data take paths as text. A recipe's own path may be any bytes, and
    overrides are looked at where they are read.
    """
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | Path) and name not in ("recipe", "overrides") and not _is_whole(str(one)):
                kind, mend = ("path", "Rename it.") if isinstance(one, Path) else ("text", None)
                raise InputError(f"this {kind} is not UTF-8: {shorten(str(one))}.", where=option, mend=mend)
            if isinstance(one, Path) and len(one.parts) > DEEPEST_PATH:
                said = f"this path is {len(one.parts):,} folders deep, and at most {DEEPEST_PATH} are taken"
                raise InputError(f"{said}: {shorten(str(one))}.", where=option)
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


def _of_path(error: OSError, output: object, *, writes: bool) -> InputError:
    """The system's error about a path: the verb's `output`, the place where it writes by default, or any other."""
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
