"""A document as it was found, and what is counted beside the records that gave none."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from megalith.curation.reading.how import How

MAXIMUM_BYTES = 64_000_000
"""A longer document (compressed transfer not counted) is left out: no page that a person wrote is so long."""

Source = Path | str
"""A file of this machine, or an address."""
Part = tuple[int, int] | None
"""Part of a file: records or lines that begin in this range of bytes, or this range of row groups; None: all."""

UNKNOWN_CHARSET = "unknown_charset"
"""Pages whose server named an encoding that the web does not know: read as if it had said nothing."""
OTHER_ENCODING = "other_encoding"
"""Documents that were not UTF-8 and were decoded as what they look like."""
REPLACED = "replaced_bytes"
"""Documents in which bytes that are not of their encoding became U+FFFD."""
LONG_METADATA = "metadata_too_long"
"""Documents whose metadata was left out."""
EMPTY_FILES = "empty_files"
"""Files without a record."""
BESIDE = frozenset({"records", UNKNOWN_CHARSET, OTHER_ENCODING, REPLACED, LONG_METADATA, EMPTY_FILES})
"""Counts that are not reasons why a record gave no document. All others and the documents add up to `records`."""


class Document(NamedTuple):
    """A document as it was found: HTML that is yet to be extracted, or ready text."""

    url: str | None
    html: bytes | None = None
    text: str | None = None
    charset: str | None = None
    """Python's name for the encoding that the server said the HTML is in."""
    source_id: str | None = None
    """Its id where it came from, or the name of its file."""
    metadata: str | None = None
    """The fields that are kept beside it, as JSON."""


Reader = Callable[[Source, Counter[str], Part, How], Iterator[Document]]
