"""One run at a time in a directory."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from megalith.errors import BusyError, InputError

LONGEST_SHOWN = 200


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process; the kernel lets go of it however the process ends.

    Creates the directory if need be, and removes it again if nothing was written there. Raises BusyError when another
    process holds it, InputError where it cannot be made or written to.
    """
    path = directory / ".lock"
    made: list[Path] = []
    try:
        made = _make(directory)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        _remove_empty(made)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"this directory cannot be written to: {error.strerror}.",
            where=str(directory)[:LONGEST_SHOWN],
            mend="Name another place with --output.",
        ) from error
    try:
        _take(handle, path)
    except BaseException:
        os.close(handle)
        raise
    try:
        yield
    finally:
        os.ftruncate(handle, 0)
        if [entry.name for entry in directory.iterdir()] == [path.name]:
            path.unlink()  # while it is held, so that nobody else holds a file that is gone
            _remove_empty(made)
        os.close(handle)


def _take(handle: int, path: Path) -> None:
    """Lock the open file and write into it who holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
            raise BlockingIOError("its last holder removed it between our opening and our locking")
    except OSError as error:
        holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
        raise BusyError(
            f"{holder} is working in this directory.",
            where=str(path.parent),
            mend="Wait for it to end, or name another directory with --output.",
        ) from error
    os.ftruncate(handle, 0)
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())


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
