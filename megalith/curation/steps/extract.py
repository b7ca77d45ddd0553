"""From a page's HTML to its text: resiliparse, trafilatura or jusText.

resiliparse is nine times faster and keeps some boilerplate; trafilatura leaves less; jusText (MT-NLG §3) finds nothing
on every sixth page. Each can take for ever on a strange page: `prepare` calls them in a process that may be killed.
"""

from collections.abc import Callable
from typing import Literal

from resiliparse.extract.html2text import extract_plain_text

from megalith.curation.text.charsets import decode

Extractor = Literal["resiliparse", "trafilatura", "justext"]


def extract(html: bytes, extractor: Extractor, charset: str | None = None) -> str:
    """The main text of a page, empty where none is found.

    `charset` is what the server said; it is believed when the bytes are not UTF-8. Raises ImportError where the
    extractor is not installed.
    """
    return EXTRACTORS[extractor](decode(html, charset)).strip()


def _resiliparse(page: str) -> str:
    return str(extract_plain_text(page, main_content=True, alt_texts=False))


def _trafilatura(page: str) -> str:
    import trafilatura

    return trafilatura.extract(page, fast=True, include_comments=False, include_tables=False) or ""


def _justext(page: str) -> str:
    import justext
    from lxml.etree import ParserError

    try:
        paragraphs = justext.justext(page, justext.get_stoplist("English"))
    except ParserError:  # nothing but comments or white space
        return ""
    return "\n\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


EXTRACTORS: dict[Extractor, Callable[[str], str]] = {
    "resiliparse": _resiliparse,
    "trafilatura": _trafilatura,
    "justext": _justext,
}
