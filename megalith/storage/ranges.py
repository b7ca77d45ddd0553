"""Ranges of a file behind any address of storage."""

from typing import Protocol

from megalith.errors import ResourceError
from megalith.storage.addresses import scheme_of
from megalith.storage.http_ranges import HttpRanges
from megalith.storage.retry import FailedError
from megalith.storage.store import StoreRanges


class Ranges(Protocol):
    """A way to a remote file."""

    size: int
    tag: str

    def read(self, start: int, stop: int) -> bytes: ...

    def close(self) -> None: ...


def open_ranges(address: str) -> Ranges:
    """The way to the file at an address.

    Raises InputError where it is missing, ResourceError where it cannot be had, UnsupportedError where the client of
    such addresses is not installed.
    """
    return HttpRanges(address) if scheme_of(address) in ("https", "http") else StoreRanges(address)


def is_missing(error: ResourceError) -> bool:
    """Whether the server says that there is no such file."""
    return isinstance(error.__cause__, FailedError) and error.__cause__.missing
