"""The limits of the machine and of the shell that a process runs into, in words.

Native libraries wrap the system's error in types of their own, so its number is looked for along the chain of causes,
and then its text.
"""

import errno
from collections.abc import Iterator

from megalith.errors import ResourceError

_AGAIN = "then run the same command again."
_LIMITS: tuple[tuple[tuple[int, ...], tuple[str, ...], str, str], ...] = (
    (
        (errno.ENOSPC, errno.EDQUOT),
        ("No space left on device", "os error 28", "Disk quota exceeded"),
        "the disk is full.",
        f"Free some space, {_AGAIN}",
    ),
    (
        (errno.EMFILE, errno.ENFILE),
        ("Too many open files", "os error 24", "os error 23"),
        "too many files are open for the limit of this shell.",
        f"Raise it, such as `ulimit -n 1024`, {_AGAIN}",
    ),
    (
        (errno.EFBIG,),
        ("File too large", "os error 27"),
        "a file has reached the size that this shell allows.",
        f"Raise it, such as `ulimit -f unlimited`, {_AGAIN}",
    ),
    (
        (errno.ENOMEM,),
        (
            "Cannot allocate memory",
            "can't allocate memory",
            "failed to map segment",
            "os error 12",
            "bad_alloc",
        ),
        "the memory is full, or `ulimit -v` allows too little.",
        f"Close other programs, raise the limit or make the work smaller, {_AGAIN}",
    ),
    (
        (errno.EAGAIN,),
        ("can't start new thread", "Resource temporarily unavailable", "os error 11"),
        "no more processes or threads may be started.",
        f"Raise the limit, such as `ulimit -u unlimited`, {_AGAIN}",
    ),
    (
        (),
        ("No usable temporary directory",),
        "temporary files cannot be written anywhere.",
        f"Set TMPDIR to a directory that can be written, {_AGAIN}",
    ),
    (
        (errno.EIO,),
        ("Input/output error", "os error 5)"),
        "the disk or the file system reports an error.",
        f"Look after the disk, or name another with --output, {_AGAIN}",
    ),
)


def limit_reached(error: BaseException, where: str | None = None) -> ResourceError | None:
    """The limit that an error, or one that caused it, tells of; None for any other error."""
    for cause in _chain(error):
        for numbers, signs, what, mend in _LIMITS:
            numbered = isinstance(cause, OSError) and cause.errno in numbers
            spelt = any(sign in str(cause) for sign in signs)
            if numbered or spelt or (isinstance(cause, MemoryError) and errno.ENOMEM in numbers):
                return ResourceError(what, where=where, mend=mend)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
