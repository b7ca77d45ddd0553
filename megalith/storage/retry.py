"""Retries shared by all remote files: ask again after a while, from the byte where an answer broke off."""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from megalith.errors import ResourceError

ATTEMPTS = 10
"""That bring no byte at all, one after another, before it is given up: two minutes and a half."""
FIRST_ATTEMPTS = 5
"""To find a file at all: a quarter of a minute. An address may be wrong."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
PATIENCE_SECONDS, SLOWEST_BYTES_PER_SECOND = 120.0, 1000
"""A range takes as long at most, and a second more for so many of its bytes."""

Looked = TypeVar("Looked")
Stream = Callable[[int, int], Iterator[bytes]]
"""One request: the bytes from a place on, up to another one or fewer; raises FailedError."""


class FailedError(Exception):
    """A request failed; the server may have said for how long to wait. `final` where asking again is of no use.

    `missing`: the server says that there is no such file.
    """

    def __init__(self, what: str, *, wait_seconds: float = 0.0, final: bool = False, missing: bool = False) -> None:
        super().__init__(what)
        self.wait_seconds = wait_seconds
        self.final = final
        self.missing = missing


def found(address: str, look: Callable[[], Looked]) -> Looked:
    """Look at a file for the first time, with retries. Raises ResourceError."""
    failures = 0
    while True:
        try:
            return look()
        except FailedError as failure:
            failures += 1
            wait(address, failure, failures, first=True)


def fetch(address: str, start: int, stop: int, stream: Stream) -> bytes:
    """The bytes from `start` to `stop`, all of them. Raises ResourceError when they do not come."""
    read = bytearray()
    failures = 0
    end = time.monotonic() + PATIENCE_SECONDS + (stop - start) / SLOWEST_BYTES_PER_SECOND
    while start + len(read) < stop:
        before = len(read)
        failure = FailedError("the answer is shorter than it says")
        try:
            for piece in stream(start + len(read), stop):
                read += piece
                if time.monotonic() > end:
                    raise FailedError("the server is too slow", final=True)
        except FailedError as error:
            failure = error
        if start + len(read) < stop:
            failures = 0 if len(read) > before else failures + 1
            wait(address, failure, failures)
    return bytes(read)


def wait(address: str, failure: FailedError, failures: int, *, first: bool = False) -> None:
    """Wait before asking again, longer each time. Raises ResourceError when that was tried often enough.

    `first`: of the file nothing has been had yet.
    """
    if failure.final or failures >= (FIRST_ATTEMPTS if first else ATTEMPTS):
        raise ResourceError(
            f"this cannot be fetched: {failure}.",
            where=address,
            mend="See that the address is right and may be read; then run the same command again.",
        ) from failure
    seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**failures)
    time.sleep(min(LONGEST_WAIT_SECONDS, max(seconds * random.uniform(0.5, 1.0), failure.wait_seconds)))
