"""One request and its answer over ASGI, within limits of bytes and time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from megalith.serving.errors import ApiError, too_busy, too_large
from megalith.serving.settings import Settings

_CHUNK = 1 << 16
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class GoneError(Exception):
    """The client has closed its connection, or has not read from it for too long."""


class Exchange:
    """A request, and the answer to it: whole, or as server-sent events."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self.headers: Mapping[str, str] = Headers(scope=scope)
        self.method: str = scope["method"]
        self.parameters: Mapping[str, str] = scope.get("path_params", {})
        """Parts of the path that the route leaves open."""
        self.status: int | None = None
        """None: nothing is sent yet."""
        self._receive_message = receive
        self._send_message = send
        self._stall = settings.stall_seconds
        self._more = True
        self._streaming = False

    async def receive(self) -> bytes | None:
        """Some more of the body; None: that was all.

        Raises ApiError (408) where it does not come, and GoneError where the client goes away.
        """
        if not self._more:
            return None
        try:
            async with asyncio.timeout(self._stall):
                message = await self._receive_message()
        except TimeoutError:
            raise ApiError(408, "The body of this request does not come.", code="request_timeout") from None
        if message["type"] == "http.disconnect":
            raise GoneError
        self._more = bool(message.get("more_body", False))
        return bytes(message.get("body", b""))

    async def gone(self) -> None:
        """Return when the client has gone away; for after the body."""
        while (await self._receive_message())["type"] != "http.disconnect":
            pass

    async def whole(
        self, content: bytes, kind: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send everything, at the client's pace."""
        await self._start(status, {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})})
        if self.method == "HEAD":
            content = b""
        for start in range(0, max(len(content), 1), _CHUNK):
            await self._send_part(content[start : start + _CHUNK], last=start + _CHUNK >= len(content))

    async def json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send one JSON object."""
        await self.whole(to_json(value), "application/json", status, headers)

    async def error(self, error: ApiError) -> None:
        """Send an error: by its status, or at the end of a stream that has begun.

        Raises GoneError where another answer has begun: it can only be broken off.
        """
        if self.status is None:
            await self.json(error.body(), error.status, error.headers())
        elif self._streaming:
            await self.event(to_json(error.body()), last=True)
        else:
            raise GoneError

    async def event(self, data: bytes, *, last: bool = False) -> None:
        """Send one event of a stream."""
        if self.status is None:
            self._streaming = True
            await self._start(200, {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"})
        await self._send_part(b"data: " + data + b"\n\n", last=last)

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        named = {**_HEADERS, **headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _send_part(self, part: bytes, *, last: bool) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": not last})

    async def _send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await self._send_message(message)
        except TimeoutError:
            raise GoneError from None


class Bodies:
    """Reads the bodies of requests; all that are being read together stay within a limit, too."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.body_limit_bytes
        self._limit_of_all = settings.all_bodies_limit_bytes
        self.bytes = 0
        """Read of all bodies whose requests are not understood yet."""

    @asynccontextmanager
    async def read(self, exchange: Exchange) -> AsyncIterator[bytes]:
        """Yield the body; its bytes count until the block ends.

        Raises ApiError: 413 for a larger body (before any of it is read, where its length is declared), 408 for one
        that does not come, 429 where too many bytes are being read. Raises GoneError where the client goes away.
        """
        if int(exchange.headers.get("content-length", "0")) > self._limit:
            raise too_large(self._limit)
        data = bytearray()
        try:
            while (part := await exchange.receive()) is not None:
                self.bytes += len(part)
                data += part
                if len(data) > self._limit:
                    raise too_large(self._limit)
                if self.bytes > self._limit_of_all:
                    raise too_busy()
            yield bytes(data)
        finally:
            self.bytes -= len(data)


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
