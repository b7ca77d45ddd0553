"""Permission to set aside what stands in the way of a request (`--fresh`)."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_allowed: ContextVar[bool] = ContextVar("set_aside", default=False)


@contextlib.contextmanager
def set_aside(allowed: bool = True) -> Iterator[None]:
    """Within the block, an artifact of other settings or inputs makes way: it is renamed to `NAME.aside-N`."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def may_set_aside() -> bool:
    """True within `set_aside`."""
    return _allowed.get()


def aside_of(path: Path) -> Path:
    """The next free `NAME.aside-N` beside `path`."""
    number = 1
    while (free := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    return free
