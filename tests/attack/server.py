"""A server of files that does not behave, one way at a time."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterator

WAYS = (
    "well", "no ranges", "status", "redirects for ever", "redirect to link-local", "redirect to a file",
    "shorter than said", "longer than said", "no length", "garbage", "closes at once", "never answers",
    "drips", "endless header", "other tag", "negative length", "huge length", "other range",
    "endless body", "closes in the middle",
)  # fmt: skip
LIFE_SECONDS = 900


@contextlib.contextmanager
def serving(content: bytes, way: str, dice: random.Random) -> Iterator[int]:
    """Serve `content` under every path of a port of this machine, from a process of its own; yield the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        try:
            _serve(listening, content, way, dice)
        finally:
            os._exit(0)
    port = listening.getsockname()[1]
    listening.close()
    try:
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _serve(listening: socket.socket, content: bytes, way: str, dice: random.Random) -> None:
    signal.alarm(LIFE_SECONDS)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    answered = 0
    while True:
        connection, _ = listening.accept()
        answered += 1
        if os.fork() == 0:
            with contextlib.suppress(OSError), connection:
                while _answer(connection, content, way, random.Random(dice.random() + answered)):
                    pass
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket, content: bytes, way: str, dice: random.Random) -> bool:
    """Answer one request; whether another may follow."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        piece = connection.recv(65536)
        if not piece:
            return False
        asked += piece
    lines = asked.decode("latin-1").split("\r\n")
    method = lines[0].split(" ")[0]
    span = next((line.split("=", 1)[1] for line in lines if line.lower().startswith("range:")), None)
    status, body, headers = "200 OK", content, {"ETag": '"a"', "Accept-Ranges": "bytes"}
    if span and way != "no ranges":
        start, _, stop = span.partition("-")
        first = int(start or 0)
        last = min(int(stop or len(content) - 1), len(content) - 1)
        if first > last:
            status, body, headers["Content-Range"] = "416 Range Not Satisfiable", b"", f"bytes */{len(content)}"
        else:
            status, body = "206 Partial Content", content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    length: int | None = len(body)
    if way == "status":
        status = dice.choice(
            ("500 x", "503 x", "403 x", "404 x", "429 x", "204 x", "100 x", "999 x", "0 x", "-1 x", "x")
        )
    elif way.startswith("redirect"):
        there = {"redirects for ever": "/again", "redirect to link-local": "http://169.254.169.254/x.jsonl"}
        status, headers["Location"] = "302 Found", there.get(way, "file:///etc/passwd")
    elif way == "shorter than said":
        length = len(body) + 1000
    elif way == "longer than said":
        length = max(len(body) - 100, 0)
    elif way == "no length":
        length = None
    elif way == "negative length":
        length = -5
    elif way == "huge length":
        length = 2**70
    elif way == "other tag":
        headers["ETag"] = f'"{dice.random()}"'
    elif way == "other range":
        headers["Content-Range"] = f"bytes 5-9/{dice.choice((3, 10**12))}"
    elif way == "garbage":
        connection.sendall(dice.randbytes(5000))
        return False
    elif way == "closes at once":
        return False
    elif way == "never answers":
        time.sleep(LIFE_SECONDS)
    if length is not None:
        headers["Content-Length"] = str(length)
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(head.encode())
    if way == "endless header":
        for number in range(10**7):
            connection.sendall(f"X-{number}: {'x' * 1000}\r\n".encode())
    connection.sendall(b"\r\n")
    if method == "HEAD":
        return length is not None
    if way == "drips":
        for byte in body:
            connection.sendall(bytes([byte]))
            time.sleep(0.5)
    if way == "endless body":
        while True:
            connection.sendall(b"x" * 65536)
    connection.sendall(body[: len(body) // 2] if way == "closes in the middle" else body)
    return way not in ("closes in the middle", "no length", "shorter than said", "longer than said")
