"""One run at a time in a directory."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from megalith.errors import BusyError, InputError


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process; the kernel lets go of it however the process ends.

    Creates the directory if need be, and removes it again if nothing was written there. Raises BusyError when another
    process holds it.
    """
    made = _make(directory)
    path = directory / ".lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise BusyError(
                f"{holder} is working in this directory.",
                where=str(directory),
                mend="Wait for it to end, or name another directory with --output.",
            ) from error
        os.ftruncate(handle, 0)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
        if sorted(entry.name for entry in directory.iterdir()) == [".lock"]:
            path.unlink()
            for empty in made:
                empty.rmdir()


def _make(directory: Path) -> list[Path]:
    """Create `directory`; return it and the parents that were missing, deepest first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            "a file stands where a directory is wanted.",
            where=str(directory),
            mend="Name another place with --output.",
        ) from error
    except PermissionError as error:
        raise InputError("this directory may not be created here.", where=str(directory)) from error
    return missing
