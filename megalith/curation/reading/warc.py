"""Reads pages out of WARC, WET and ARC files, past damage.

A reader that trusts the file loses everything behind the first damaged record. Here the next record is looked for by
the mark that begins it (of a gzip member, a zstd frame, or of a WARC record in a plain file) and reading goes on there;
each place of damage is counted. A record that is cut short is counted and left out; those before it are kept. So can a
file be read in parts: each begins at the first record behind its first byte.
"""

import contextlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType
from warcio.archiveiterator import ArchiveIterator as ArcIterator
from warcio.exceptions import ArchiveLoadFailed

from megalith.curation.reading.archive import (
    GZIP_MAGIC,
    After,
    dictionary_of,
    ends_the_file,
    has_bare_line_ends,
    next_record,
    opened,
)
from megalith.curation.reading.content_encoding import decoded
from megalith.curation.text.charsets import web_charset

MAXIMUM_BYTES = 64_000_000
"""A longer document (compressed transfer not counted) is left out: no page that a person wrote is so long."""

Part = tuple[int, int] | None
"""Part of a file: records or lines that begin in this range of bytes, or this range of row groups; None: all."""

HTML_START = re.compile(  # what was matched before the tag is never tried in another way
    rb"(?>\s++|<!--.*?-->)*+<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
PROBE_BYTES = 1 << 16
UNKNOWN_CHARSET = "unknown_charset"
"""Counted beside reasons why records are left out: such a page is read, as if the server had said nothing."""
HTTP_RECORD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"


class Document(NamedTuple):
    """A document as it was found: HTML that is yet to be extracted, or ready text."""

    url: str | None
    html: bytes | None = None
    text: str | None = None
    charset: str | None = None
    """Python's name for the encoding that the server said the HTML is in."""


def read_warc(source: Path | str, counts: Counter[str], part: Part = None) -> Iterator[Document]:
    """The HTML responses and resources and the text conversions of a WARC file; `counts` takes the others."""
    with opened(source) as (file, data):
        if not len(data):
            return
        dictionary = dictionary_of(data)
        stop = part[1] if part else len(data)
        start = next_record(data, part[0], stop) if part and part[0] else 0
        while start is not None and start < stop:
            last = start - 1
            truncated = counts["truncated"]
            file.seek(start)
            stream, before = (After(dictionary, file), start - len(dictionary)) if dictionary and start else (file, 0)
            try:
                for record in ArchiveIterator(stream, parse_http=False, quirks_mode=has_bare_line_ends(data, start)):
                    if before + record.stream_pos >= stop:
                        return
                    last = before + record.stream_pos
                    counts["records"] += 1
                    document = _document(record, counts)
                    if document is not None:
                        yield document
                failed = last < start
            except OSError:
                failed = True
            if not failed and ends_the_file(data, last):
                return
            following = next_record(data, max(last, start) + 1, stop)
            if failed or following is not None:
                counts["damaged"] += last >= start or start == 0  # else the same damage as before
            elif counts["truncated"] == truncated:
                counts["truncated"] += 1
            start = following


def read_arc(source: Path | str, counts: Counter[str]) -> Iterator[Document]:
    """The HTML pages of an ARC file, WARC's forerunner; what lies behind damage in it is lost."""
    with opened(source) as (file, data):
        read = False
        try:
            for record in ArcIterator(file, arc2warc=True):
                read = True
                counts["records"] += 1
                if record.rec_type != "response":
                    counts[record.rec_type] += 1
                    continue
                length = int(record.rec_headers.get_header("Content-Length") or 0)
                body = record.content_stream().read(MAXIMUM_BYTES + 1)
                if not body and length:
                    counts["truncated"] += 1
                    continue
                http = record.http_headers
                status, kind = (http.get_statuscode(), http.get_header("Content-Type")) if http else ("", None)
                url = record.rec_headers.get_header("WARC-Target-URI")
                document = _page(url, int(status) if status.isdigit() else None, kind, body, counts)
                if document is not None:
                    yield document
        except (ArchiveLoadFailed, ValueError, EOFError, zlib.error):
            counts["damaged"] += 1
        else:
            counts["damaged"] += len(data) > 0 and not read


def _document(record: WarcRecord, counts: Counter[str]) -> Document | None:
    kind = record.record_type
    if kind not in (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion):
        counts[str(kind)] += 1
        return None
    length = record.content_length
    if length > MAXIMUM_BYTES:
        counts["too_long"] += 1
        return None
    record.freeze()
    content = record.reader.read()
    if len(content) < length:
        counts["truncated"] += 1
        return None
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>") or None  # wget writes the brackets
    if kind == WarcRecordType.conversion:
        return Document(url, text=content.decode(errors="replace"))
    if kind == WarcRecordType.resource:
        return _page(url, 200, record.headers.get("Content-Type"), content, counts)
    if not record.is_http:
        counts["not_http"] += 1
        return None
    http, body = _http(content)
    return _page(url, http.status_code if http else None, http.get("Content-Type") if http else None, body, counts)


def _http(content: bytes) -> tuple[HeaderMap | None, bytes]:
    """Headers and decoded body of an HTTP response; of a body longer than is read, no more than that.

    Many crawlers wrote the body decoded and left the headers that say how it was encoded. No headers where the body is
    gzip that cannot be read.
    """
    record = HTTP_RECORD % len(content) + content + b"\r\n\r\n"
    headers, body = None, b""
    for transfer in ("transfer", "none"):
        with contextlib.suppress(OSError):
            parsed = WarcRecord.from_bytes(record)
            parsed.parse_http(auto_decode=transfer, quirks_mode=True)
            headers, body = parsed.http_headers, parsed.reader.read()
            encoding = headers.get("Content-Encoding") if headers else None
            return headers, decoded(body, encoding or "", MAXIMUM_BYTES + 1)
    return None if body.startswith(GZIP_MAGIC) else headers, body


def _page(
    url: str | None, status: int | None, content_type: str | None, body: bytes, counts: Counter[str]
) -> Document | None:
    """The page, if it is one: found, HTML by its type (or by its look, where none was said), not empty, not endless."""
    media_type, _, parameters = (content_type or "").partition(";")
    is_html = media_type.strip().lower() in ("text/html", "application/xhtml+xml")
    if not media_type.strip():
        is_html = HTML_START.match(body[:PROBE_BYTES]) is not None
    reason = None
    if status is None:
        reason = "bad_http"
    elif status != 200:
        reason = "not_found"
    elif not is_html:
        reason = "not_html"
    elif len(body) > MAXIMUM_BYTES:
        reason = "too_long"
    elif not body.strip():
        reason = "no_text"
    if reason is not None:
        counts[reason] += 1
        return None
    said = re.search(r"charset=[\"']?([\w.:-]+)", parameters, re.IGNORECASE)
    charset = web_charset(said[1]) if said else None
    if said and charset is None:
        counts[UNKNOWN_CHARSET] += 1
    return Document(url, html=body, charset=charset)
