"""A directory of objects behind an address, by fsspec: listed, read, written and removed.

Which client serves an address is fsspec's choice by its scheme: s3fs, gcsfs, huggingface_hub. Each call has a time
limit and is tried again; what a client says goes into an error in one line, without secrets. An object is written whole
or not at all, but nothing can be renamed and nobody can be locked out: whoever writes several puts the one last that
makes them valid.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from megalith.errors import InputError, MegalithError, ResourceError, UnsupportedError
from megalith.storage.addresses import join, refuse_secrets, scheme_of, storage_address
from megalith.storage.retry import FailedError, fetch, found

LIMIT_SECONDS = 60.0
"""For a call that moves few bytes; others have more by `SLOWEST_BYTES_PER_SECOND`."""
SLOWEST_BYTES_PER_SECOND = 20_000
SILENT_SECONDS = 20.0
"""Without a byte, where the client has such a limit of its own."""
_EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}
_WRITABLE = ("s3", "gs")
_STORES = (*_WRITABLE, "hf")
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": SILENT_SECONDS,
            "read_timeout": SILENT_SECONDS,
            "retries": {"max_attempts": 0},  # `retry` does that, for every client alike
        }
    },
}
_LOGGERS = ("s3fs", "aiobotocore", "botocore", "gcsfs", "google", "aiohttp", "huggingface_hub", "fsspec")
_TAGS = ("ETag", "etag", "blob_id", "oid", "md5Hash", "generation", "LastModified", "mtime", "updated", "created")
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError, TypeError)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Object:
    """A file of a listing."""

    address: str
    name: str
    """Its path below what was listed."""
    bytes: int
    tag: str
    """ETag or its like, which changes with the content."""


class Store:
    """The objects under an address of `s3://`, `gs://` or `hf://`."""

    def __init__(self, address: str) -> None:
        """Raises UnsupportedError where the client of such addresses is not installed, InputError for a secret."""
        found = storage_address(address)
        if found is None:
            raise InputError(
                "this is not an address of a store.", where=address, mend="Use s3://BUCKET/PATH or gs://…."
            )
        refuse_secrets(found)
        self.address = found.rstrip("/")
        if scheme_of(found) not in _STORES:
            raise UnsupportedError(
                f"{scheme_of(found)}:// has no folders that can be listed or written.",
                where=found,
                mend="Use s3:// or gs://.",
            )
        self._files, path = _client(self.address)
        self._path = str(path).rstrip("/")

    def objects(self, name: str = "") -> list[Object]:
        """All files under `name`, by name; none where nothing is there. Raises ResourceError."""
        return self._attempt(lambda: self._list(name), self._at(name))

    def look(self, name: str) -> Object | None:
        """A file as it is now, or None. Raises ResourceError where that cannot be told."""
        return self._attempt(lambda: self._info(name), self._at(name))

    def read(self, name: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, all of them. Raises ResourceError when they do not come."""

        def stream(start: int, stop: int) -> Iterator[bytes]:
            yield self._once(lambda: self._files.cat_file(self._within(name), start=start, end=stop), stop - start)

        return fetch(self._at(name), start, stop, stream)

    def write(self, file: Path, name: str) -> None:
        """Put a file of this machine there, in place of what stands. Raises ResourceError where its size is not so."""
        size = file.stat().st_size

        def put() -> None:
            self._once(lambda: self._files.put_file(str(file), self._within(name)), size)
            there = self._info(name)
            if there is None or there.bytes != size:
                raise FailedError(f"{there.bytes if there else 0:,} of {size:,} bytes have arrived")

        self._attempt(put, self._at(name))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            if self._info(name) is not None:
                self._once(lambda: self._files.rm_file(self._within(name)))

        self._attempt(remove, self._at(name))

    def refuse_reading_only(self) -> None:
        """Raise UnsupportedError for an address that is read here and not written."""
        if scheme_of(self.address) not in _WRITABLE:
            raise UnsupportedError(
                f"{scheme_of(self.address)}:// is read, not written.",
                where=self.address,
                mend="Use s3:// or gs://; for the Hugging Face Hub, use `hf upload`.",
            )

    def _at(self, name: str) -> str:
        return join(self.address, name) if name else self.address

    def _within(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _list(self, name: str) -> list[Object]:
        root = self._within(name)
        try:
            infos = self._once(lambda: self._files.find(root, detail=True))
        except FailedError as error:
            if error.missing:
                return []
            raise
        start = len(root) + 1
        found = []
        for path, info in sorted(infos.items()):
            if path != root and not path.endswith("/") and info.get("type") == "file":
                found.append(Object(join(self._at(name), path[start:]), path[start:], int(info["size"]), _tag(info)))
        return found

    def _info(self, name: str) -> Object | None:
        path = self._within(name)
        try:
            info = self._once(lambda: self._files.info(path))
        except FailedError as error:
            if error.missing:
                return None
            raise
        if info.get("type") != "file":
            return None
        return Object(self._at(name), name, int(info["size"]), _tag(info))

    def _once(self, call: Callable[[], Answer], size: int = 0) -> Answer:
        """One call within its time limit. Raises FailedError, whatever the client raises."""
        try:
            return within(LIMIT_SECONDS + size / SLOWEST_BYTES_PER_SECOND, call)
        except MegalithError:
            raise
        except Exception as error:
            raise FailedError(
                _said(error), final=isinstance(error, _FINAL), missing=isinstance(error, FileNotFoundError)
            ) from error

    def _attempt(self, call: Callable[[], Answer], address: str) -> Answer:
        return found(address, call)


class StoreRanges:
    """A file of a store, read by ranges. Raises ResourceError where it cannot be had, InputError if it changes."""

    def __init__(self, address: str) -> None:
        folder, _, self._name = address.rpartition("/")
        self._store = Store(folder)
        self.address = address
        there = self._store.look(self._name)
        if there is None:
            raise missing(address)
        self.size, self.tag = there.bytes, there.tag

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, of the file that was found first."""
        try:
            content = self._store.read(self._name, start, stop)
        except ResourceError:  # it may have become shorter
            self._check()
            raise
        self._check()
        return content

    def _check(self) -> None:
        there = self._store.look(self._name)
        if there is None or (there.bytes, there.tag) != (self.size, self.tag):
            raise InputError(
                "this file changed while it was read.",
                where=self.address,
                mend="Run the same command again; it is read anew.",
            )

    def close(self) -> None:
        """Connections are the client's affair."""


def missing(address: str) -> InputError:
    """Return the error for a file that is not there."""
    return InputError("there is no such file.", where=address, mend="See that the address is right and may be read.")


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """The answer of `call`. Raises TimeoutError where it takes longer; it is left behind in a thread of its own."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # noqa: BLE001 - handed on
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return answers[0]


def _client(address: str) -> tuple[Any, str]:
    scheme = scheme_of(address)
    for name in _LOGGERS:  # what they say is told as an error, with secrets masked
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL + 1)
    try:
        files, path = fsspec.core.url_to_fs(address, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        package = _EXTRAS.get(scheme, scheme)
        raise UnsupportedError(
            f"{scheme}:// addresses take {package}, which is not installed.",
            where=address,
            mend=f"pip install 'megalith[{scheme}]'",
        ) from error
    except ValueError as error:
        raise InputError(f"this address is not understood: {_said(error)}.", where=address) from error
    if hasattr(files, "retries"):
        files.retries = 1
    return files, path


def _tag(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in _TAGS if info.get(name)), "")


def _said(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said[:300].rstrip(".")
