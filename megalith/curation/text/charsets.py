"""Encodings of pages: those of the web (WHATWG's Encoding Standard) and no others.

Python knows more codecs than the web does, and some are no encodings of text, raise whatever they are told to do about
errors (`undefined`, `idna`), or take time that grows with the square of the page (`punycode`).
"""

import contextlib

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5


def web_charset(label: str) -> str | None:
    """Python's name for the encoding that a page or a server names; None where the web knows no such label."""
    name: str | None = map_encoding_to_html5(label.strip().lower(), fallback_utf8=False)
    return name


def decode(html: bytes, charset: str | None = None) -> str:
    """The page as text: UTF-8 if it is valid, else what the server said, else what the page says or looks like.

    `charset` is the server's label. One that the web does not know is passed over.
    """
    with contextlib.suppress(UnicodeDecodeError):
        return html.decode("utf-8-sig")
    said = web_charset(charset) if charset is not None else None
    if said is not None:
        return html.decode(said, errors="replace")
    return str(bytes_to_str(html, detect_encoding(html, from_html_meta=True) or "utf-8", errors="replace"))
