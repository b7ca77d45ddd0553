"""Reads pages out of WARC, WET and ARC files, past damage.

A reader that trusts the file loses everything behind the first damaged record. Here the next record is looked for by
the mark that begins it (of a gzip member, or of a WARC record in a plain file) and reading goes on there; each place of
damage is counted. A record that is cut short is counted and left out; those before it are kept.
"""

import contextlib
import mmap
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType
from warcio.archiveiterator import ArchiveIterator as ArcIterator
from warcio.exceptions import ArchiveLoadFailed

MAXIMUM_BYTES = 64_000_000
"""A longer document (compressed transfer not counted) is left out: no page that a person wrote is so long."""

GZIP_MAGIC = b"\x1f\x8b\x08"
RECORD_START = re.compile(rb"WARC/[01]\.\d+\r?\n")
HTML_START = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
CONTENT_LENGTH = re.compile(rb"^Content-Length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
PROBE_BYTES = 1 << 16
HTTP_RECORD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"


class Document(NamedTuple):
    """A document as it was found: HTML that is yet to be extracted, or ready text."""

    url: str | None
    html: bytes | None = None
    text: str | None = None
    charset: str | None = None
    """Of the HTML, as the server said it."""


def read_warc(path: Path, counts: Counter[str]) -> Iterator[Document]:
    """The HTML responses and resources and the text conversions of a WARC file; `counts` takes the others."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start: int | None = 0
        while start is not None:
            last = start - 1
            truncated = counts["truncated"]
            file.seek(start)
            try:
                for record in ArchiveIterator(file, parse_http=False, quirks_mode=_has_bare_line_ends(data, start)):
                    last = record.stream_pos
                    counts["records"] += 1
                    document = _document(record, counts)
                    if document is not None:
                        yield document
                failed = last < start
            except OSError:
                failed = True
            if not failed and _ends_the_file(data, last):
                return
            following = _next_record(data, max(last, start) + 1)
            if failed or following is not None:
                counts["damaged"] += last >= start or start == 0  # else the same damage as before
            elif counts["truncated"] == truncated:
                counts["truncated"] += 1
            start = following


def read_arc(path: Path, counts: Counter[str]) -> Iterator[Document]:
    """The HTML pages of an ARC file, WARC's forerunner; what lies behind damage in it is lost."""
    with path.open("rb") as file:
        try:
            for record in ArcIterator(file, arc2warc=True):
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
    """Headers and decoded body of an HTTP response.

    Many crawlers wrote the body decoded and left the headers that say how it was encoded.
    """
    record = HTTP_RECORD % len(content) + content + b"\r\n\r\n"
    for encodings in ("all", "content", "none"):
        with contextlib.suppress(OSError):
            parsed = WarcRecord.from_bytes(record)
            parsed.parse_http(auto_decode=encodings, quirks_mode=True)
            return parsed.http_headers, parsed.reader.read()
    return None, b""


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
    charset = re.search(r"charset=[\"']?([\w.:-]+)", parameters, re.IGNORECASE)
    return Document(url, html=body, charset=charset[1].lower() if charset else None)


def _has_bare_line_ends(data: mmap.mmap, start: int) -> bool:
    """Whether the record at `start` ends its lines without a carriage return, as some tools write them."""
    begins = RECORD_START.match(_beginning(data, start))
    return begins is not None and not begins[0].endswith(b"\r\n")


def _next_record(data: mmap.mmap, start: int) -> int | None:
    """Where the first whole-looking record at or after `start` begins."""
    if RECORD_START.match(data) and (plain := RECORD_START.search(data, start)):
        return plain.start()
    while (start := data.find(GZIP_MAGIC, start)) >= 0:
        if RECORD_START.match(_beginning(data, start)):
            return start
        start += 1
    return None


def _beginning(data: mmap.mmap, start: int) -> bytes:
    """The first bytes of a record, decompressed if it is a gzip member."""
    if data[start : start + len(GZIP_MAGIC)] != GZIP_MAGIC:
        return data[start : start + 64]
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[start : start + PROBE_BYTES], 64)
    except zlib.error:
        return b""


def _ends_the_file(data: mmap.mmap, last: int) -> bool:
    """Whether the file ends where its last record, at `last`, does; a reader of a cut file just stops."""
    end = last
    if data[last : last + len(GZIP_MAGIC)] == GZIP_MAGIC:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            while not member.eof and end < len(data):
                piece = data[end : end + PROBE_BYTES]
                member.decompress(piece)
                end += len(piece) - len(member.unused_data)
        except zlib.error:
            return False
        if not member.eof:
            return False
    elif RECORD_START.match(data, last):
        blank = BLANK_LINE.search(data, last)
        length = CONTENT_LENGTH.search(data[last : blank.end()]) if blank else None
        if blank is None or length is None or blank.end() + int(length[1]) > len(data):
            return False
        end = blank.end() + int(length[1])
    else:  # another compression
        return True
    return not data[end : end + PROBE_BYTES].strip(b"\0\r\n")
