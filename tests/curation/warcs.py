"""WARC records of small pages, as tests damage and serve them."""

import io
import os
from collections.abc import Sequence

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter


def page(number: int, size: int = 300) -> bytes:
    """Incompressible enough that a record spans some hundred bytes of gzip."""
    return f"<html><body>page {number} {os.urandom(size).hex()}</body></html>".encode()


def members(pages: Sequence[bytes], *, compressed: bool = True, **headers: str) -> list[bytes]:
    """One WARC response record for each page."""
    written = []
    for number, body in enumerate(pages):
        buffer = io.BytesIO()
        writer = WARCWriter(buffer, gzip=compressed)
        fields = {"Content-Type": "text/html; charset=UTF-8", **headers}
        http = StatusAndHeaders("200 OK", list(fields.items()), protocol="HTTP/1.1")
        record = writer.create_warc_record(
            f"http://example.org/{number}", "response", payload=io.BytesIO(body), http_headers=http
        )
        writer.write_record(record)
        written.append(buffer.getvalue())
    return written
