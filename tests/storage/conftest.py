"""A local S3 server (moto), reached through a proxy that fails and dawdles as networks and stores do."""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from megalith.storage import retry, store

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@dataclass
class Proxy:
    """The way to the server. A fault is for one request, in order: its method, its name, after a colon its number."""

    server: str
    address: str = ""
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def client(self) -> Any:
        """A client of the server itself."""
        boto3 = pytest.importorskip("boto3")
        return boto3.client(
            "s3", endpoint_url=f"http://{self.server}", aws_access_key_id="k", aws_secret_access_key="s"
        )

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket, as the server has it."""
        client = self.client
        return {key: client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in self.names()}

    def names(self) -> list[str]:
        """The names of everything in the bucket."""
        return [each["Key"] for each in self.client.list_objects_v2(Bucket="bucket").get("Contents", [])]

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=key, Body=content)

    def delete(self, *keys: str) -> None:
        client = self.client
        for key in keys:
            client.delete_object(Bucket="bucket", Key=key)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is missing: pip install 'moto[s3]' flask flask-cors s3fs")
    pytest.importorskip("s3fs", reason="s3fs is missing: pip install megalith[s3]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(f"{host}:{port}")
    connection.request("PUT", "/bucket")
    assert connection.getresponse().status == 200
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server behind its proxy, as the environment of the client says; quick to try again, and impatient."""
    import s3fs  # type: ignore[import-untyped]

    proxy = Proxy(moto_server)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.address,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MEGALITH_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(store, "LIMIT_SECONDS", 20.0)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.faults.clear()
    proxy.delete(*proxy.objects())
    server.shutdown()
    server.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Silent: it is meant to fail."""


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._pass_on()

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.asked.append(f"{self.command} {self.path}")
        fault, number = self._fault()
        if fault == "hang up":
            self.close_connection = True
            return self.connection.close()
        if fault == "stall":
            time.sleep(number)
            self.close_connection = True
            return self.connection.close()
        if fault == "status":
            return self._plain(number)
        connection = http.client.HTTPConnection(self.proxy.server)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return None
        with contextlib.suppress(OSError):
            if fault == "drop":
                self.wfile.write(content[:number])
                self.close_connection = True
                self.connection.close()
            elif fault == "drip":
                for place in range(len(content)):
                    self.wfile.write(content[place : place + 1])
                    time.sleep(number / 1000)
            else:
                self.wfile.write(content)
        return None

    def _fault(self) -> tuple[str, int]:
        for place, fault in enumerate(self.proxy.faults):
            method, _, said = fault.partition(" ")
            if method == self.command:
                del self.proxy.faults[place]
                name, _, number = said.partition(":")
                return name, int(number or 0)
        return "", 0

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
