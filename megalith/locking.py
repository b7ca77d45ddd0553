"""One run at a time in a directory."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from megalith.errors import BusyError, InputError

LONGEST_SHOWN = 200
LOCK = ".lock"
HOLDER = ".lock-holder"
"""Beside the lock, whose own content other systems neither keep nor let others read."""


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process; the system lets go of it however the process ends.

    Creates the directory if need be, and removes it again if nothing was written there. Raises BusyError when another
    process holds it, InputError where it cannot be made or written to.
    """
    made: list[Path] = []
    held = filelock.FileLock(directory / LOCK, blocking=False)
    try:
        made = _make(directory)
        held.acquire()
    except filelock.Timeout as error:
        raise BusyError(
            f"{_holder(directory)} is working in this directory.",
            where=str(directory),
            mend="Wait for it to end, or name another directory with --output.",
        ) from error
    except OSError as error:
        _remove_empty(made)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise InputError(
            f"this directory cannot be written to: {error.strerror}.",
            where=str(directory)[:LONGEST_SHOWN],
            mend="Name another place with --output.",
        ) from error
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        (directory / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
    try:
        yield
    finally:
        (directory / HOLDER).unlink(missing_ok=True)
        if [entry.name for entry in directory.iterdir()] == [LOCK]:
            (directory / LOCK).unlink(missing_ok=True)  # while held: nobody else holds a file that is gone
            _remove_empty(made)
        held.release()


def _holder(directory: Path) -> str:
    try:
        return (directory / HOLDER).read_text(errors="replace")[:LONGEST_SHOWN].strip() or "another process"
    except OSError:
        return "another process"


def _make(directory: Path) -> list[Path]:
    """Create `directory`; return it and the parents that were missing, deepest first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            "a file stands where a directory is wanted.", where=str(directory), mend="Name another place with --output."
        ) from error
    return missing


def _remove_empty(made: list[Path]) -> None:
    for directory in made:
        with contextlib.suppress(OSError):
            directory.rmdir()
