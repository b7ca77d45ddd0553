"""From a page's HTML to its text: resiliparse, trafilatura or jusText.

resiliparse is nine times faster and keeps some boilerplate; trafilatura leaves less; jusText (MT-NLG §3) finds nothing
on every sixth page. The latter two are Python and can take for ever on a strange page: they work in processes that are
killed when they do.
"""

import codecs
import contextlib
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as TookTooLongError
from typing import Literal

import numpy as np
from pebble import ProcessExpired, ProcessPool
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from megalith.errors import UnsupportedError
from megalith.processes import die_with

Extractor = Literal["resiliparse", "trafilatura", "justext"]

MAXIMUM_BYTES = 10_000_000
"""Of HTML: a longer page has no text for us."""
SECONDS_PER_PAGE = 20.0
DEEP = 2000
"""Tags inside each other; people write some tens, and resiliparse still takes but milliseconds."""
PAGES_PER_PROCESS = 2000
"""trafilatura's caches grow: a process is renewed now and then."""


def extract(html: bytes, extractor: Extractor, charset: str | None = None) -> str:
    """The main text of a page, empty where none is found, the page is too long or the extractor takes too long.

    `charset` is what the server said; it is believed when the bytes are not UTF-8. Raises UnsupportedError when the
    extractor is not installed.
    """
    if len(html) > MAXIMUM_BYTES:
        return ""
    page = decode(html, charset)
    if extractor == "resiliparse" and not _is_deep(html):
        text = _resiliparse(page)
    else:
        text = _within_limits(_EXTRACTORS[extractor], page)
    return text.strip()


def decode(html: bytes, charset: str | None = None) -> str:
    """The page as text: UTF-8 if it is valid, else what the server said, else what the page says or looks like."""
    with contextlib.suppress(UnicodeDecodeError):
        return html.decode("utf-8-sig")
    if charset is not None:
        with contextlib.suppress(LookupError):
            return html.decode(codecs.lookup(charset).name, errors="replace")
    return str(bytes_to_str(html, detect_encoding(html, from_html_meta=True) or "utf-8", errors="replace"))


def _resiliparse(page: str) -> str:
    return str(extract_plain_text(page, main_content=True, alt_texts=False))


def _trafilatura(page: str) -> str:
    import trafilatura

    return trafilatura.extract(page, fast=True, include_comments=False, include_tables=False) or ""


def _justext(page: str) -> str:
    import justext

    paragraphs = justext.justext(page, justext.get_stoplist("English"))
    return "\n\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


_EXTRACTORS: dict[Extractor, Callable[[str], str]] = {
    "resiliparse": _resiliparse,
    "trafilatura": _trafilatura,
    "justext": _justext,
}


def _is_deep(html: bytes) -> bool:
    """Whether tags may be nested too deeply for resiliparse, whose time grows with the square of the depth.

    An upper bound, from opening and closing tags alone: one that is left open counts as if all behind it were inside.
    """
    if html.count(b"<") <= DEEP:
        return False
    data = np.frombuffer(html, np.uint8)
    tags = np.flatnonzero(data[:-2] == ord("<"))
    first, second = data[tags + 1], data[tags + 2]
    step = (((first | 32) >= ord("a")) & ((first | 32) <= ord("z"))).astype(np.int64) - (first == ord("/"))
    for void in (b"br", b"hr", b"im", b"in", b"me"):  # br, hr, img, input, meta: never closed
        step[((first | 32) == void[0]) & ((second | 32) == void[1])] = 0
    return bool(len(step)) and int(step.cumsum().max()) > DEEP


_starting = threading.Lock()


def _within_limits(extractor: Callable[[str], str], page: str) -> str:
    """Run an extractor in one of the processes kept for it; empty if it does not come back in time."""
    try:
        with _starting:
            processes = _processes()
        return str(processes.schedule(extractor, args=(page,), timeout=SECONDS_PER_PAGE).result())
    except (TookTooLongError, ProcessExpired):
        return ""
    except ImportError as error:
        raise UnsupportedError(
            f"this extractor wants the package {error.name}, which is not installed.",
            where="curate.extractor",
            mend=f"Run `pip install {error.name}`, or take curate.extractor=resiliparse.",
        ) from error


@functools.cache
def _processes() -> ProcessPool:
    """Started when first wanted; they end with this process, however it ends."""
    return ProcessPool(
        max_workers=1,  # whoever extracts does so a page at a time
        max_tasks=PAGES_PER_PROCESS,
        context=multiprocessing.get_context("spawn"),
        initializer=die_with,
        initargs=(os.getpid(),),
    )
