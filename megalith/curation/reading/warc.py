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
from typing import BinaryIO, cast

from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType
from warcio.archiveiterator import ArchiveIterator as ArcIterator
from warcio.exceptions import ArchiveLoadFailed

from megalith.curation.reading.archive import (
    GZIP_MAGIC,
    After,
    Data,
    begins_a_record,
    dictionary_of,
    end_of_member,
    ends_the_file,
    has_bare_line_ends,
    is_packed,
    next_record,
    opened,
)
from megalith.curation.reading.content_encoding import decoded
from megalith.curation.reading.document import (
    MAXIMUM_BYTES,
    OTHER_ENCODING,
    UNKNOWN_CHARSET,
    Document,
    Part,
    Source,
)
from megalith.curation.reading.encodings import encoding_of
from megalith.curation.reading.how import AS_IT_IS, How
from megalith.curation.reading.members import Members, records_of
from megalith.curation.reading.opening import open_file
from megalith.curation.text.charsets import web_charset

HTML_START = re.compile(  # what was matched before the tag is never tried in another way
    rb"(?>\s++|<!--.*?-->)*+<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
PROBE_BYTES = 1 << 16
ODD_STATUS_LINE = re.compile(rb"(?!HTTP/\d(?:\.\d)? \d)\s{0,4}(?:[Hh][Tt][Tt][Pp](?:/\d(?:\.\d)?)?|ICY)[ \t]+(\d{3})\b")
"""In small letters, with several spaces, or of a server of radio: what browsers take for a status line as well."""
PROVED = 32
"""Records whose members are looked into; a member that is no record is also seen by where its records stand."""
HTTP_RECORD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"


def read_warc(source: Source, counts: Counter[str], part: Part = None, how: How = AS_IT_IS) -> Iterator[Document]:
    """The HTML responses and resources and the text conversions of a WARC file; `counts` takes the others."""
    with opened(source) as (file, data):
        if not len(data):
            return
        stop = part[1] if part else len(data)
        start = next_record(data, part[0], stop) if part and part[0] else 0
        while start is not None and start < stop:
            reading = _Reading(file, data, start, stop if part else None)
            truncated = counts["truncated"]
            for record in reading.records(counts):
                counts["records"] += 1
                document = _document(record, counts, how)
                if document is not None:
                    yield document
            if reading.ended:
                return
            following = next_record(data, reading.resume, stop)
            if reading.failed or following is not None:
                if reading.last >= start or start == 0:  # else the same damage as before
                    counts.update(records=1, damaged=1)
            elif counts["truncated"] == truncated:
                counts.update(records=1, truncated=1)
            start = following


class _Reading:
    """The records from one place on, as far as they can be read without a look around for the next."""

    def __init__(self, file: BinaryIO, data: Data, start: int, stop: int | None) -> None:
        self._file, self._data, self._start, self._stop = file, data, start, stop
        self._bare = has_bare_line_ends(data, start)
        self.last = start - 1
        """Where the last record begins."""
        self.failed = False
        """Whether the reading broke off."""
        self.ended = False
        """Whether nothing is left, in the file or in its part."""

    @property
    def resume(self) -> int:
        """Where to look for the next record."""
        return max(self.last, self._start) + 1

    def records(self, counts: Counter[str]) -> Iterator[WarcRecord]:
        """The records of a file, each compressed by itself or not at all; any other goes on as `_content`."""
        data, start, stop = self._data, self._start, self._stop
        dictionary = dictionary_of(data)
        self._file.seek(start)
        stream: BinaryIO = self._file
        before = 0
        if dictionary and start:
            stream, before = cast(BinaryIO, After(dictionary, self._file)), start - len(dictionary)
        member = start or len(dictionary)
        packed = is_packed(data, member)
        since, earlier, number = 0, (member, 0), 0
        try:
            for record in ArchiveIterator(stream, parse_http=False, quirks_mode=self._bare):
                at = max(start, before + record.stream_pos)
                if packed and number:
                    again = at == member
                    beyond = stop is not None and at >= stop
                    proved = number >= PROVED and not beyond
                    if again or not is_packed(data, at) or not (proved or begins_a_record(data, at)):
                        from_, passed = (earlier[0], earlier[1] + since) if again else (member, since)
                        yield from self._content(from_, passed, counts)
                        return
                    if beyond:  # the last member may hold more than its record
                        yield from self._content(member, since, counts, at)
                        return
                    earlier, member, since = (member, since), at, 0
                elif stop is not None and at >= stop:
                    self.ended = True
                    return
                self.last = at
                since += 1
                number += 1
                yield record
            self.failed = self.last < start
        except OSError:
            self.failed = True
        self.ended = not self.failed and ends_the_file(data, self.last)
        if not self.ended and packed and since and end_of_member(data, member) is None:
            yield from self._content(member, since, counts)  # what stands before the damage in this very member

    def _content(self, start: int, passed: int, counts: Counter[str], end: int | None = None) -> Iterator[WarcRecord]:
        """The records of members that are not records."""
        members = Members(self._data, start, len(self._data) if self._stop is None else self._stop, end)
        yield from records_of(members, passed, counts, self._bare)
        self.failed = members.failure is not None and not members.cut
        self.ended = members.failure is None
        self.last = members.following if members.failure is not None else start


def read_arc(source: Source, counts: Counter[str], part: Part = None, how: How = AS_IT_IS) -> Iterator[Document]:
    """The HTML pages of an ARC file, WARC's forerunner; what lies behind damage in it is lost."""
    with opened(source) as (file, data):
        read = False
        whole = is_packed(data, 0) and (end_of_member(data, 0) or 0) == len(data)  # not a member a record
        try:
            for record in ArcIterator(open_file(source) if whole else file, arc2warc=True):
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
                document = _page(url, int(status) if status.isdigit() else None, kind, body, counts, how)
                if document is not None:
                    yield document
        except (ArchiveLoadFailed, ValueError, EOFError, zlib.error):
            counts.update(records=1, damaged=1)
        else:
            if len(data) and not read:
                counts.update(records=1, damaged=1)


def _document(record: WarcRecord, counts: Counter[str], how: How) -> Document | None:
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
        return _page(url, 200, record.headers.get("Content-Type"), content, counts, how)
    if not record.is_http:
        counts["not_http"] += 1
        return None
    http, body = _http(content)
    status = http.status_code if http else None
    return _page(url, status, http.get("Content-Type") if http else None, body, counts, how)


def _http(content: bytes) -> tuple[HeaderMap | None, bytes]:
    """Headers and decoded body of an HTTP response; of a body longer than is read, no more than that.

    Many crawlers wrote the body decoded and left the headers that say how it was encoded. No headers where the body is
    gzip that cannot be read.
    """
    odd = ODD_STATUS_LINE.match(content)
    if odd:
        content = b"HTTP/1.1 %s%s" % (odd[1], content[odd.end() :])
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
    url: str | None, status: int | None, content_type: str | None, body: bytes, counts: Counter[str], how: How
) -> Document | None:
    """The page, if it is one: found, HTML by its type (or by its look, where none was said), not empty, not endless."""
    media_type, _, parameters = (content_type or "").partition(";")
    is_html = media_type.strip().lower() in ("text/html", "application/xhtml+xml")
    if not media_type.strip():
        is_html = HTML_START.match(body[:PROBE_BYTES]) is not None
    is_plain = False
    reason = None
    if status is None:
        reason = "bad_http"
    elif status != 200:
        reason = "not_found"
    elif not (is_html or (is_plain := how.plain_text_pages and media_type.strip().lower() == "text/plain")):
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
    if is_plain:
        said_or_seen = charset or encoding_of(body)
        if said_or_seen.lower() not in ("utf-8", "utf8", "ascii"):
            counts[OTHER_ENCODING] += 1
        return Document(url, text=body.decode(said_or_seen, "replace"))
    return Document(url, html=body, charset=charset)
