"""A server on a free port of this machine, in a thread of its own, and ways to ask it."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra megalith[serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra megalith[serve] is not installed")
pytest.importorskip("prometheus_client", reason="the extra megalith[serve] is not installed")

from megalith.inference import LanguageModel
from megalith.serving import Service, Settings, bind
from megalith.serving.server import serve_until
from tests.serving.engines import SlowEngine

MODEL = "small"


@dataclass
class Answer:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, the last mark left out."""
        found = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part]
        return [json.loads(one) for one in found if one != "[DONE]"]


@dataclass
class Server:
    """A server that answers."""

    port: int
    service: Service
    engine: Any

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    def complete(self, prompt: Any, **fields: Any) -> Answer:
        return self.ask("POST", "/v1/completions", {"model": MODEL, "prompt": prompt, **fields})

    def refused(self, status: int, answer: Answer) -> dict[str, Any]:
        """The error of an answer that has this status, in OpenAI's form."""
        assert answer.status == status, answer.body
        (name,) = answer.json
        assert name == "error" and set(answer.json["error"]) == {"message", "type", "param", "code"}
        error: dict[str, Any] = answer.json["error"]
        return error


@contextlib.contextmanager
def serving(lm: LanguageModel, engine: Any = None, **settings: Any) -> Iterator[Server]:
    """A server with this engine (default: one that can be slowed); it ends with the block."""
    engine = engine or SlowEngine(lm)
    listening = bind("127.0.0.1", 0)
    service = Service(lm, engine, Settings(MODEL, **{"grace_seconds": 0.2, **settings}))
    ready, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve_until(service, listening, ready.set, end.is_set)))
    port = listening.getsockname()[1]
    thread.start()
    try:
        assert ready.wait(10)
        yield Server(port, service, engine)
    finally:
        end.set()
        thread.join(20)
        assert not thread.is_alive()


def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
