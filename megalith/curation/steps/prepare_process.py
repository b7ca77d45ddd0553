"""The process that `prepare` starts: it extracts and cleans documents, each within its limit of processor time."""

import json
import math
import os
import pickle
import resource
import signal
import sys
import time
from multiprocessing.connection import Connection
from types import FrameType

from megalith.curation.steps.clean import clean
from megalith.curation.steps.extract import EXTRACTORS, Extractor, extract
from megalith.curation.steps.prepare import (
    FAILED,
    GRACE_SECONDS,
    MAXIMUM_HTML_BYTES,
    NO_TEXT,
    OUT_OF_MEMORY,
    PAGE_TOO_LONG,
    TOOK_TOO_LONG,
    Prepared,
    Raw,
)
from megalith.processes import die_with


def serve() -> None:
    """Answer until nobody asks. By its arguments: the package's folder, channel, parent, extractor, seconds, and
    whether quotation marks and letters are made plain."""
    die_with(int(sys.argv[3]))
    channel = Connection(int(sys.argv[2]))
    extractor = next(name for name in EXTRACTORS if name == sys.argv[4])
    limit = Limit(float(sys.argv[5]), straight_quotes=sys.argv[6] == "1", plain_letters=sys.argv[7] == "1")
    try:
        EXTRACTORS[extractor]("<p>x</p>")
    except ImportError as error:
        channel.send_bytes((error.name or str(error)).encode())
        return
    channel.send_bytes(b"")
    while True:
        try:
            documents = pickle.loads(channel.recv_bytes())
        except EOFError:
            return
        for document in documents:
            channel.send_bytes(json.dumps(_prepare(Raw(*document), extractor, limit)).encode())


def _prepare(document: Raw, extractor: Extractor, limit: "Limit") -> Prepared:
    try:
        return limit(document, extractor)
    except TookTooLongError:
        return Prepared("", TOOK_TOO_LONG)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception:  # noqa: BLE001 - whatever a library raises is about this document
        return Prepared("", FAILED)


def text_of(
    document: Raw, extractor: Extractor, *, straight_quotes: bool = False, plain_letters: bool = False
) -> Prepared:
    """The clean text of a document, or why it has none."""
    if isinstance(document.content, str):
        text = document.content
    elif len(document.content) > MAXIMUM_HTML_BYTES:
        return Prepared("", PAGE_TOO_LONG)
    else:
        text = extract(document.content, extractor, document.charset)
    text = clean(text, straight_quotes=straight_quotes, plain_letters=plain_letters)
    return Prepared(text, None if text else NO_TEXT)


class TookTooLongError(BaseException):
    """A document has used up its processor time. Not an Exception, which libraries catch and go on."""


class Limit:
    """Calls `text_of` within so many seconds of this process's processor time."""

    def __init__(self, seconds: float, **rewrite: bool) -> None:
        self.seconds = seconds
        self.rewrite = rewrite
        self._armed = False
        self._most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        signal.signal(signal.SIGPROF, self._ring)

    def __call__(self, document: Raw, extractor: Extractor) -> Prepared:
        """Return the result of `text_of`. Raises TookTooLongError; if a library does not return, the kernel ends the
        process some seconds later."""
        last = math.ceil(time.process_time() + self.seconds) + GRACE_SECONDS
        soft = last if self._most == resource.RLIM_INFINITY else min(last, self._most)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, self._most))
        self._armed = True
        signal.setitimer(signal.ITIMER_PROF, self.seconds, 1.0)
        try:
            return text_of(document, extractor, **self.rewrite)
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _ring(self, _: int, __: FrameType | None) -> None:
        if self._armed:
            raise TookTooLongError
