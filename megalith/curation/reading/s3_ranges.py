"""Ranges of an object behind s3://, by Arrow's S3 client: credentials and region as AWS's own tools find them.

What Arrow reads in such an address counts here too (`?region=`, `?endpoint_override=host:port&scheme=http`, for a store
that is not Amazon's). Arrow asks again when a connection breaks; over its attempts there are ours.
"""

from collections.abc import Iterator
from urllib.parse import quote

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType

from megalith.storage import Object
from megalith.storage.addresses import split_address
from megalith.storage.retry import FailedError, fetch, found


class S3Ranges:
    """The object at an address. Raises ResourceError where it cannot be had."""

    def __init__(self, address: str) -> None:
        self.address = address
        found(address, self._look)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, which lie within the object."""
        return fetch(self.address, start, stop, self._stream)

    def close(self) -> None:
        self._file.close()

    def _look(self) -> None:
        try:
            system, path = FileSystem.from_uri(self.address)
            self._file = system.open_input_file(path)
            self.size = int(self._file.size())
            self.tag = self._file.metadata().get("ETag", b"").decode("latin-1")
        except (OSError, pa.ArrowException) as error:
            raise _failed(error) from error

    def _stream(self, start: int, stop: int) -> Iterator[bytes]:
        try:
            yield self._file.read_at(stop - start, start)
        except OSError as error:
            raise _failed(error) from error


def objects_under(address: str) -> list[Object]:
    """All objects under a prefix, if any, by name. Raises ResourceError where it cannot be listed."""
    return found(address, lambda: _list(address))


def _list(address: str) -> list[Object]:
    try:
        system, prefix = FileSystem.from_uri(address)
        infos = system.get_file_info(FileSelector(prefix, allow_not_found=True, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise _failed(error) from error
    parts, start = split_address(address), len(prefix.rstrip("/")) + 1
    return sorted(
        (
            Object(
                parts._replace(path="/" + quote(info.path.partition("/")[2])).geturl(),
                info.path[start:],
                int(info.size),
                str(info.mtime_ns),
            )
            for info in infos
            if info.type is FileType.File
        ),
        key=lambda each: each.name,
    )


def _failed(error: Exception) -> FailedError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    final = isinstance(error, (FileNotFoundError, PermissionError, pa.ArrowInvalid)) or "ACCESS_DENIED" in said
    return FailedError(said.rstrip("."), final=final)
