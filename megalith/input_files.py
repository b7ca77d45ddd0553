"""Read a small file that a user or an earlier stage wrote: bounded, regular, UTF-8, and JSON where it must be.

Every failure is an InputError with the file's name and the mend; nothing here hangs on a pipe or fills the memory.
"""

import csv
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from megalith.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

MOST_BYTES = 256 * 2**20
"""No settings, constants, facts or samples of Megalith's come near this size."""
_CSV_LIMIT = threading.RLock()


def expand(path: Path, *, where: str = "curate") -> Path:
    """The path with `$NAME` and `~` filled in, unless a file of that very name stands there.

    Raises InputError where there is no such variable.
    """
    if "$" in str(path) and os.path.lexists(path):
        return path
    filled = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - pathlib knows no variables
    if re.search(r"\$(\{|[A-Za-z_])", filled) and not os.path.lexists(filled):
        raise InputError(f"{path} names a variable that is not set.", where=where, mend="Set it and try again.")
    return Path(filled)


def real_path(path: Path) -> Path:
    """The path without links, as far as they lead somewhere: Path.resolve raises RuntimeError for a link to itself."""
    return Path(os.path.realpath(path))  # pathlib has none that does not raise


def read_bytes(path: Path, *, most: int = MOST_BYTES, mend: str | None = None) -> bytes:
    """The bytes of a regular file. Raises InputError where it is missing, of another kind, unreadable or too large."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # to open a pipe without a writer would wait for one
            raise InputError(f"this is {_kind(mode)}, not a regular file.", where=str(path), mend=mend)
        with path.open("rb") as file:
            read = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"this file cannot be read: {reason}.", where=str(path), mend=mend) from error
    if len(read) > most:
        raise InputError(f"this file is larger than {most:,} bytes.", where=str(path), mend=mend)
    return read


def read_text(path: Path, *, most: int = MOST_BYTES, mend: str | None = None) -> str:
    """The text of a regular UTF-8 file, without a byte order mark. Raises InputError as `read_bytes`, and for bytes
    that are not UTF-8."""
    content = read_bytes(path, most=most, mend=mend)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"this file is not UTF-8: byte {content[error.start]:#04x} in line {line}.",
            where=str(path),
            mend=mend or "Save it as UTF-8.",
        ) from error


def read_json(path: Path, *, most: int = MOST_BYTES, mend: str | None = None) -> Any:
    """The value in a JSON file. Raises InputError where it cannot be read or is not JSON."""
    return _parse(read_text(path, most=most, mend=mend), str(path), mend)


def parse_json(text: str, *, where: str, mend: str | None = None) -> Any:
    """The value of a JSON text that a user wrote, such as a line of a file; `where` names its place.

    Raises InputError for what is not JSON, is nested too deeply, has a number of thousands of digits, or half a
    character (a lone surrogate), which no tokenizer takes.
    """
    value = _parse(text, where, mend)
    if r"\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise _not_json("half a character (a lone surrogate) stands in it", where, mend) from error
    return value


def read_model(path: Path, model: type[Model], *, mend: str | None = None) -> Model:
    """A pydantic model from a JSON file. Raises InputError where it cannot be read or does not fit the model."""
    try:
        return model.model_validate_json(read_bytes(path, mend=mend))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"this file does not hold what it should: {place + ': ' if place else ''}{first['msg']}.",
            where=str(path),
            mend=mend,
        ) from error


@contextmanager
def csv_field_limit(most: int) -> Iterator[None]:
    """Let csv read fields of up to `most` characters within the block, in place of its 131,072.

    The limit is one for the whole process and counts while a row is read, so the block is to hold no more than that;
    threads enter it one after another.
    """
    with _CSV_LIMIT:
        before = csv.field_size_limit(most)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _parse(text: str, where: str, mend: str | None) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise _not_json("its brackets are nested too deeply", where, mend) from error
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg[0].lower()}{error.msg[1:]} (line {error.lineno})", where, mend) from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise _not_json("it has a number of thousands of digits", where, mend) from error


def _not_json(reason: str, where: str, mend: str | None) -> InputError:
    return InputError(f"this is not JSON: {reason}.", where=where, mend=mend)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
