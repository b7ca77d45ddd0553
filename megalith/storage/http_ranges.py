"""Ranges of a file behind http:// or https://, by urllib3: proxies and certificates as it does them.

Size and tag (ETag, or else the date of the last change) are asked for first; an answer that tells of another size or
tag is another file, and an error. Of a server that knows no ranges, the file is read from its start, once if it is read
in order. The size must be known: what a server makes up as it goes is not read.
"""

import contextlib
import functools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from megalith.errors import InputError, UnsupportedError
from megalith.storage.hosts import RefusedError, followed, is_named, public_manager
from megalith.storage.retry import FailedError, fetch, found

READ_BYTES = 1 << 17
TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
MOST_REDIRECTS = 5
BUSY = {408, 425, 429, 500, 502, 503, 504}


class HttpRanges:
    """The file at an address. Raises ResourceError where it cannot be had, InputError where it changes meanwhile."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._open: urllib3.BaseHTTPResponse | None = None
        """The answer of a server without ranges, and how far it was read."""
        self._at = 0
        self.size, self.tag = found(address, self._look)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, which lie within the file."""
        return fetch(self.address, start, stop, self._stream)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def _look(self) -> tuple[int, str]:
        """Size and tag. A GET, since HEAD is refused by some and never allowed by a signed address."""
        response = self._ask(0, 1)
        size = _size(response)
        if response.status == 206:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                response.drain_conn()
        response.close()
        if size is None:
            raise UnsupportedError(
                "the server does not say how long this file is.",
                where=self.address,
                mend="Download it and name the file.",
            )
        return size, _tag(response)

    def _stream(self, start: int, stop: int) -> Iterator[bytes]:
        if self._open is not None and self._at <= start:
            response = self._open
        else:
            self.close()
            response = self._ask(start, stop)
            if (_size(response), _tag(response)) != (self.size, self.tag):
                response.close()
                raise InputError(
                    "this file changed while it was read.",
                    where=self.address,
                    mend="Run the same command again; it is read anew.",
                )
            if response.status == 200:
                self._open, self._at = response, 0
        position = self._at if response is self._open else start
        try:
            while position < stop:
                piece = response.read1(min(READ_BYTES, stop - position), decode_content=False)
                if not piece:
                    break
                position += len(piece)
                if response is self._open:
                    self._at = position
                yield piece[max(0, start - position + len(piece)) :]
        except urllib3.exceptions.HTTPError as error:
            response.close()
            self._open = None
            raise FailedError(_said(error)) from error
        if response is not self._open:
            response.release_conn()
        elif position < stop:
            self.close()

    def _ask(self, start: int, stop: int) -> urllib3.BaseHTTPResponse:
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity", "User-Agent": "megalith"}
        address = self.address
        for _ in range(1 + MOST_REDIRECTS):
            try:
                response = _pool(address, named=is_named(self.address, address)).request(
                    "GET",
                    address,
                    headers=headers,
                    preload_content=False,
                    timeout=TIMEOUT,
                    retries=False,
                    redirect=False,
                )
                location = response.get_redirect_location()
                if not location:
                    break
                response.close()
                address = followed(self.address, address, location)
            except RefusedError as error:
                raise FailedError(str(error), final=True) from error
            except urllib3.exceptions.HTTPError as error:
                final = isinstance(error, urllib3.exceptions.LocationValueError)
                raise FailedError(_said(error), final=final) from error
        else:
            raise FailedError(f"it redirects more than {MOST_REDIRECTS} times", final=True)
        if response.status in (200, 206, 416):  # the last: the file is empty, or has become shorter
            said = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if response.status == 206 and (said is None or int(said[1]) != start):
                response.close()
                raise FailedError("the server sent another range than was asked for")
            return response
        response.close()
        busy = response.status in BUSY
        seconds = None
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            seconds = urllib3.Retry().get_retry_after(response) if busy else None
        raise FailedError(
            f"the server answers {response.status} {response.reason or ''}".strip(),
            wait_seconds=seconds or 0.0,
            final=not busy,
            missing=response.status in (404, 410),
        )


def _size(response: urllib3.BaseHTTPResponse) -> int | None:
    if response.status == 200:
        said = response.headers.get("Content-Length", "")
    else:  # 416 is what a range of an empty file is answered with
        said = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(said) if said.isdecimal() else None


def _tag(response: urllib3.BaseHTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _said(error: Exception) -> str:
    """The innermost reason, without the objects that urllib3 prints around it."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        return _said(reason)
    return re.sub(r"<[^>]*>:? ?|\w+\(host=.*?\): ", "", str(error)) or type(error).__name__


@functools.lru_cache(maxsize=64)
def _manager(proxy: str | None, *, named: bool) -> urllib3.PoolManager:
    if proxy:  # which knows its own way
        return urllib3.ProxyManager(proxy)
    return urllib3.PoolManager() if named else public_manager()


def _pool(address: str, *, named: bool) -> urllib3.PoolManager:
    """The connections that stand, through the proxy that the environment names; `named`: to a host of the user's."""
    parts = urlsplit(address)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return _manager(proxy, named=named)
