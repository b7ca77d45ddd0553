"""A web server of a directory, with ranges, that fails as servers and networks do; it answers as S3 does, too."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Site:
    """The behaviour of the server. A fault is for one GET, in order: its name, before a colon its number."""

    root: Path
    address: str = ""
    faults: list[str] = field(default_factory=list)
    ranges: bool = True
    length: bool = True
    """Whether it says how long a file is."""
    tag: Callable[[bytes], str] = lambda content: f'"{hashlib.md5(content).hexdigest()}"'
    moved: dict[str, str] = field(default_factory=dict)
    """Where a path has moved to."""
    asked: list[str] = field(default_factory=list)
    """Every GET: its path and range."""
    sent_bytes: int = 0


@contextmanager
def served(root: Path) -> Iterator[Site]:
    """The directory at `site.address` (ends in a slash) while the block runs."""
    site = Site(root)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.address = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Silent: it is meant to fail."""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        site = self.site
        said = self.headers.get("Range")
        if body:
            site.asked.append(f"{self.path} {said or ''}".strip())
        fault, _, number = (site.faults.pop(0) if body and site.faults else "").partition(":")
        if fault == "status":
            return self._plain(int(number), {"Retry-After": "0"})
        if fault == "hang up":
            self.close_connection = True
            return self.connection.close()
        if self.path in site.moved:
            return self._plain(302, {"Location": site.moved[self.path]})
        if self.path.startswith("/moved/"):
            return self._plain(302, {"Location": site.address + self.path.removeprefix("/moved/")})
        if "list-type=2" in self.path:
            return self._list()
        file = site.root / unquote(self.path.partition("?")[0].lstrip("/"))
        if not file.is_file():
            return self._plain(404, {})
        content = file.read_bytes()
        headers = {"ETag": site.tag(content), "Accept-Ranges": "bytes" if site.ranges else "none"}
        if self.headers.get("If-Match") not in (None, headers["ETag"]):
            return self._plain(412, headers)
        status, size = 200, len(content)
        ranged = re.fullmatch(r"bytes=(\d*)-(\d*)", said or "")
        if ranged and site.ranges and body:
            start = int(ranged[1]) if ranged[1] else size - int(ranged[2])
            stop = min(int(ranged[2]) + 1, size) if ranged[1] and ranged[2] else size
            if start >= size:
                return self._plain(416, {"Content-Range": f"bytes */{size}"})
            status, content = 206, content[start:stop]
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        length = len(content)
        if fault == "short length":  # the header says less than there is
            length = min(length, int(number))
        if fault == "long length":
            length += int(number)
        if fault == "drop":
            content = content[: int(number)]
        self.send_response(status)
        for name, value in (headers | ({"Content-Length": str(length)} if site.length else {})).items():
            self.send_header(name, value)
        self.close_connection = self.close_connection or not site.length
        self.end_headers()
        if not body:
            return None
        with suppress(ConnectionError):  # the other side may have enough
            if fault == "trickle":  # a byte every so many milliseconds
                for place in range(len(content)):
                    self.wfile.write(content[place : place + 1])
                    time.sleep(int(number) / 1000)
            else:
                self.wfile.write(content)
        site.sent_bytes += len(content)
        if fault:
            self.close_connection = True
        return None

    def _list(self) -> None:
        """As S3 answers ListObjectsV2, two objects at a time."""
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query))
        bucket = self.site.root / unquote(parts.path.strip("/"))
        names = sorted(str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file())
        names = [name for name in names if name.startswith(asked.get("prefix", ""))]
        start = int(asked.get("continuation-token", 0))
        page, more = names[start : start + 2], start + 2 < len(names)
        said = [("IsTruncated", str(more).lower()), ("KeyCount", str(len(page)))]
        said += [("NextContinuationToken", str(start + 2))] if more else []
        text = "".join(f"<{name}>{value}</{name}>" for name, value in said)
        for name in page:
            size = (bucket / name).stat().st_size
            text += f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size>"
            text += "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
        body = f'<?xml version="1.0"?><ListBucketResult>{text}</ListBucketResult>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()
