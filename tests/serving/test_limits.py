"""Limits: of bytes, time, waiting requests and patience; and engines that fail."""

import asyncio
import contextlib
import copy
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
import torch

from megalith.errors import InputError
from megalith.inference import LanguageModel
from tests.serving.engines import SlowEngine
from tests.serving.servers import MODEL, Server, eventually, serving

from megalith.serving import Settings  # isort: skip # after the check that Starlette is there
from megalith.serving.errors import out_of_time  # isort: skip
from megalith.serving.exchange import Exchange, GoneError  # isort: skip

COMPLETIONS = "/v1/completions"


def body(**fields: Any) -> bytes:
    return json.dumps(
        {"model": MODEL, "prompt": "The", "max_tokens": 25, "temperature": 1.9, "seed": 1, **fields}
    ).encode()


def request(content: bytes, length: int | None = None) -> bytes:
    declared = len(content) if length is None else length
    return f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {declared}\r\n\r\n".encode() + content


@contextlib.contextmanager
def connected(server: Server, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as made:
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(10)
        made.connect(("127.0.0.1", server.port))
        yield made


def is_idle(server: Server) -> bool:
    return server.engine.kv_bytes_used == server.engine.running == server.engine.waiting == 0


def everything(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part
    return found


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(lm: LanguageModel) -> None:
    with serving(lm) as server:
        with connected(server) as connection:
            connection.sendall(request(b"{", length=10_000_000))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
        error = server.refused(413, server.ask("POST", COMPLETIONS, body(prompt="a" * 10_000_000)))
        assert error["type"] == "invalid_request_error" and "8,000,000 bytes" in error["message"]
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        with contextlib.closing(connection):  # in chunks: no length is declared
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", COMPLETIONS, (b" " * 1_000_000 for _ in range(10)), encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"})  # fmt: skip
            assert connection.getresponse().status == 413
        assert server.complete("The", max_tokens=1).status == 200


def test_a_prompt_of_ten_megabytes_is_an_error_of_the_api_and_nothing_more(lm: LanguageModel) -> None:
    with serving(lm, body_limit_bytes=20_000_000) as server:
        error = server.refused(400, server.ask("POST", COMPLETIONS, body(prompt="a word " * 1_500_000)))
        assert error["code"] == "context_length_exceeded" and error["param"] == "prompt"
        assert server.complete("The", max_tokens=1).status == 200


def test_an_answer_of_too_many_log_probabilities_is_refused(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megalith.serving.answering.MOST_NUMBERS", 500)
    with serving(lm) as server:
        ids = [5] * 20
        error = server.refused(400, server.complete([ids, ids], echo=True, logprobs=10, max_tokens=5))
        assert error["code"] == "answer_too_large" and "572" in error["message"]  # 2 × (21 + 5) × 11
        assert server.complete([ids, ids], echo=True, logprobs=5, max_tokens=5).status == 200
        assert server.complete([ids] * 30, echo=True, max_tokens=5).status == 200


def test_bodies_that_come_together_share_a_limit(lm: LanguageModel) -> None:
    with serving(lm, body_limit_bytes=1000) as server, contextlib.ExitStack() as open_ones:
        for _ in range(8):
            connection = open_ones.enter_context(connected(server))
            connection.sendall(request(b" " * 990, length=1000))
        eventually(lambda: server.service.bodies.bytes == 8 * 990)
        answer = server.ask("POST", COMPLETIONS, body() + b" " * 500)
        assert answer.headers["retry-after"] == "1"
        assert server.refused(429, answer)["type"] == "rate_limit_error"


def test_a_request_beyond_those_that_may_wait_is_told_to_come_again(lm: LanguageModel) -> None:
    engine = SlowEngine(lm, max_batch=2)
    with serving(lm, engine, max_batch=2, max_waiting=1) as server, contextlib.ExitStack() as open_ones:
        engine.pause = 0.2
        for _ in range(3):
            open_ones.enter_context(connected(server)).sendall(request(body(stop="§§")))
        eventually(lambda: server.engine.running + server.engine.waiting == 3)
        answer = server.ask("POST", COMPLETIONS, body())
        assert server.refused(429, answer)["code"] == "too_many_requests"
        assert int(answer.headers["retry-after"]) >= 1
        assert server.ask("GET", "/health").status == 200
        server.engine.pause = 0
        eventually(lambda: is_idle(server))
        assert server.complete("The", n=128, max_tokens=1).status == 200  # alone, a request may have more


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_ended(lm: LanguageModel, stream: bool) -> None:
    with serving(lm, time_limit_seconds=0.8) as server:
        server.engine.pause = 0.1
        answer = server.ask("POST", COMPLETIONS, body(stream=stream))
        if stream:
            assert answer.status == 200 and b"[DONE]" not in answer.body
            *events, last = answer.events
            assert events and last["error"]["code"] == "timeout"
        else:
            assert server.refused(504, answer)["type"] == "timeout_error"
        eventually(lambda: is_idle(server))
        server.engine.pause = 1.0  # no token in time: a stream has not begun, and has a status
        assert server.refused(504, server.ask("POST", COMPLETIONS, body(stream=stream)))["code"] == "timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_cache(lm: LanguageModel, stream: bool) -> None:
    with serving(lm) as server:
        server.engine.pause = 0.2
        with connected(server) as connection:
            connection.sendall(request(body(stream=stream, n=3)))
            eventually(lambda: server.engine.kv_bytes_used > 0)
            if stream:
                assert connection.recv(1000)
        eventually(lambda: is_idle(server))
        assert server.engine.cancelled == 3 and server.engine.steps < 25  # for 25 tokens
        assert b"megalith_requests_abandoned_total 1.0" in server.ask("GET", "/metrics").body


def test_a_body_that_does_not_come_and_a_connection_that_asks_nothing_are_closed(lm: LanguageModel) -> None:
    with serving(lm, stall_seconds=0.3) as server, contextlib.ExitStack() as open_ones:
        half, silent, headless = (open_ones.enter_context(connected(server)) for _ in range(3))
        half.sendall(request(b"{", length=100))
        headless.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: lo")
        assert b"408" in half.recv(1000) and everything(silent) == everything(headless) == b""


def test_a_reader_that_does_not_read_is_let_go(lm: LanguageModel) -> None:
    with serving(lm, stall_seconds=0.3) as server, connected(server, receive_buffer=4096) as connection:
        connection.sendall(request(body(n=128, logprobs=20, stream=True)))
        eventually(lambda: b"megalith_requests_abandoned_total 1.0" in server.ask("GET", "/metrics").body, 20)
        eventually(lambda: is_idle(server))
        assert server.complete("The", max_tokens=1).status == 200


def test_garbage_harms_nobody(lm: LanguageModel) -> None:
    with serving(lm) as server:
        for garbage in (b"\x00\xff" * 5000, b"GET / HTTP/9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                        b"GET /" + b"a" * 70_000, b"\x16\x03\x01\x02\x00\x01\x00"):  # fmt: skip
            with connected(server) as connection, contextlib.suppress(OSError):
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                assert everything(connection)[:12] in (b"", b"HTTP/1.1 400")
        assert server.complete("The", max_tokens=1).status == 200


@pytest.mark.parametrize("error", [InputError("the logits of this model are not finite."), RuntimeError("secret")])
def test_a_step_that_fails_ends_its_requests_and_not_the_server(lm: LanguageModel, error: Exception) -> None:
    with serving(lm) as server:
        server.engine.failing = error
        told = server.refused(500, server.complete("The"))
        assert told["type"] == "server_error" and "secret" not in told["message"]
        assert isinstance(error, RuntimeError) or "not finite" in told["message"]
        answers = []
        server.engine.pause = 0.05
        thread = threading.Thread(
            target=lambda: answers.append(server.complete("The", max_tokens=25, stream=True, seed=1))
        )
        thread.start()
        eventually(lambda: server.engine.running == 1 and server.engine.steps > 5)
        server.engine.failing = error
        thread.join()
        assert answers[0].events[-1]["error"]["code"] == "engine_failed"
        server.engine.pause = 0
        assert is_idle(server) and server.complete("The", max_tokens=2).status == 200
        assert server.ask("GET", "/health").status == 200


def test_logits_that_are_not_finite_are_told_and_the_server_stays(lm: LanguageModel) -> None:
    model = copy.deepcopy(lm.model)
    with torch.no_grad():
        model.final_norm.weight.fill_(3e38)
    with serving(dataclasses.replace(lm, model=model)) as server:
        for _turn in range(2):
            assert "not finite" in server.refused(500, server.complete("The"))["message"]
        assert is_idle(server) and server.ask("GET", "/health").status == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_cannot_go_on_is_told_and_asked_no_more(lm: LanguageModel) -> None:
    with serving(lm) as server:
        server.engine.failing = RuntimeError("broken")
        server.engine.cancel = None  # type: ignore[method-assign]  # what a failed step is cleaned up with
        for _turn in range(2):
            assert server.refused(503, server.complete("The"))["code"] == "engine_failed"
        assert server.refused(503, server.ask("GET", "/health"))["code"] == "engine_failed"


def test_an_answer_that_has_begun_is_broken_off_and_not_spoilt() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        await asyncio.sleep(0 if message["type"].endswith("start") else 10)

    async def answer() -> None:
        scope = {"type": "http", "method": "GET", "headers": []}
        exchange = Exchange(scope, lambda: asyncio.sleep(10), send, Settings(MODEL))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(exchange.whole(b"{}", "application/json"), 0.05)
        with pytest.raises(GoneError):
            await exchange.error(out_of_time(1))

    asyncio.run(answer())
    assert sent == ["http.response.start", "http.response.body"]


def test_what_can_never_fit_the_cache_is_refused_and_what_can_waits(lm: LanguageModel) -> None:
    with serving(lm) as server:
        server.engine.kv_bytes_limit = 25 * 2 * 2 * 16 * 4  # tokens, layers, keys and values, hidden size, bytes
        error = server.refused(400, server.complete("The", max_tokens=29))
        assert "the limit is 6,400" in error["message"] and error["code"] == "refused"
        made = server.complete("The", max_tokens=20, n=5, seed=1, temperature=1.9).json
        assert len(made["choices"]) == 5 and all(choice["finish_reason"] for choice in made["choices"])


def test_the_end_gives_grace_and_then_says_why(lm: LanguageModel) -> None:
    answers: dict[str, Any] = {}
    with serving(lm, grace_seconds=1.5) as server:
        server.engine.pause = 0.04

        def ask(name: str, **fields: Any) -> None:
            answers[name] = server.complete("The", temperature=1.9, seed=1, **fields)

        asking = [
            threading.Thread(target=ask, args=[name], kwargs=fields)
            for name, fields in {
                "short": {"max_tokens": 4},
                "whole": {"max_tokens": 30, "n": 2},
                "streamed": {"max_tokens": 30, "stream": True},
            }.items()
        ]
        for thread in asking:
            thread.start()
        eventually(lambda: server.engine.running == 4)
        threading.Timer(0.4, lambda: setattr(server.engine, "pause", 0.2)).start()
    for thread in asking:
        thread.join()
    assert answers["short"].status == 200
    assert server.refused(503, answers["whole"])["code"] == "stopping"
    assert answers["streamed"].events[-1]["error"]["code"] == "stopping"
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/health")
