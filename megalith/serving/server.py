"""The server: its socket, its connections, and how it ends."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from megalith.errors import InputError
from megalith.serving.app import Service
from megalith.serving.settings import Settings

_TICK_SECONDS = 0.25
_SEND_BUFFER = 1 << 17
"""Bytes that the system holds for a client that does not read: past them it counts as stalled."""
_MARGIN_SECONDS = 3.0
"""For answers that are cut at the end of the grace time to be sent."""


def bind(host: str, port: int) -> socket.socket:
    """Listen at an address. Raises InputError where it is not this machine's, or the port is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"the server cannot listen at port {port}: {error.strerror or error}.",
            where=f"--host {host}",
            mend="Set another --port, or 0 for any that is free.",
        ) from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return listening


def address_of(listening: socket.socket) -> str:
    """The address for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(service: Service, listening: socket.socket, ready: Callable[[], object]) -> None:
    """Answer until SIGINT or SIGTERM; then finish what runs within the grace time, and free the port."""
    with _quiet_signals():
        asyncio.run(serve_until(service, listening, ready))


async def serve_until(
    service: Service, listening: socket.socket, ready: Callable[[], object], end: Callable[[], bool] = lambda: False
) -> None:
    """Answer until a signal comes or `end` says so; `ready` is called when the server listens."""
    settings = service.settings
    config = uvicorn.Config(
        service.app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(settings.grace_seconds + _MARGIN_SECONDS) + 1,
    )
    server = uvicorn.Server(config)
    watching = asyncio.create_task(_watch(server, service, ready, end))
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        service.engine.stop()


async def _watch(
    server: uvicorn.Server, service: Service, ready: Callable[[], object], end: Callable[[], bool]
) -> None:
    """Say when the server is there, close connections that send nothing, and end the server when it is asked to."""
    while not server.started:
        await asyncio.sleep(0.01)
    ready()
    idle = Idle(service.settings)
    while not server.should_exit:
        await asyncio.sleep(_TICK_SECONDS)
        idle.close(server.server_state.connections)
        server.should_exit |= end()
    service.answering.stopping = True
    last = time.monotonic() + service.settings.grace_seconds
    while time.monotonic() < last and not server.force_exit:
        await asyncio.sleep(_TICK_SECONDS)
    service.answering.end()
    await asyncio.sleep(0 if server.force_exit else _MARGIN_SECONDS)
    for connection in list(server.server_state.connections):
        connection.transport.abort()


class Idle:
    """Closes connections without a request (and those whose client does not take the rest of an answer)."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.stall_seconds
        self._since: dict[Any, float] = {}

    def close(self, connections: set[Any]) -> None:
        """Close what has been idle for too long."""
        now = time.monotonic()
        waiting = {one for one in connections if one.cycle is None or one.cycle.response_complete}
        waiting |= {one for one in connections if one.transport.is_closing()}
        self._since = {one: self._since.get(one, now) for one in waiting}
        for one, since in self._since.items():
            if now - since > self._limit:
                one.transport.abort()


@contextlib.contextmanager
def _quiet_signals() -> Iterator[None]:
    """Have the signals that end the server end it alone: uvicorn raises them once more when it is done."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
