"""Files of documents, here, behind https:// or in S3: WARC, ARC, JSON lines, Parquet, text and pages, also compressed.

A source is found, cut into parts, and read a document at a time; what is damaged is passed by and counted.
"""

from megalith.curation.reading.opening import open_bytes, open_file
from megalith.curation.reading.read import find_files, no_usable_line, read_documents
from megalith.curation.reading.remote import address_of
from megalith.curation.reading.remote_sources import Remote, find_remote, title_of
from megalith.curation.reading.warc import UNKNOWN_CHARSET, Document

__all__ = [
    "UNKNOWN_CHARSET",
    "Document",
    "Remote",
    "address_of",
    "find_files",
    "find_remote",
    "no_usable_line",
    "open_bytes",
    "open_file",
    "read_documents",
    "title_of",
]
